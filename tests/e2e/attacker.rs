//! What somebody does who became root on a server of the fleet. Runs there: this very program, pushed by `hostile`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socle::agent::enrolment::{Identity, Membership};
use socle::agent::link_door;
use socle::model::fleet::{Mark, Position};
use socle::model::{Digest, Generation};
use socle::wire::envelope::{Payload, Purpose};
use socle::wire::frame::{Reader, Writer};
use socle::wire::message::{Certified, FromAgent, MAX_BYTES, ToAgent};
use socle::wire::tls::{self, Peer};
use socle::wire::{Envelope, SigningKey};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

const STATE: &str = "/var/lib/socle";
/// The document that the controller sent this server last, as it was signed.
pub const KEPT: &str = "/root/kept.json";
/// One that this server was sent before.
pub const OLDER: &str = "/root/older.json";
/// One of another server.
pub const OTHERS: &str = "/root/others.json";
/// The `fleet.json` of the server that is impersonated.
pub const VICTIM: &str = "/root/victim.json";
/// The instance of the victim that has a certificate of the fleet's authority.
pub const INSTANCE: &str = "page";

fn identity() -> Identity {
    Identity::load(Path::new(STATE)).unwrap().unwrap()
}

fn membership() -> Membership {
    Membership::load(Path::new(STATE)).unwrap().unwrap()
}

/// With `config`, or as the link would.
async fn dial(config: ClientConfig) -> tokio_rustls::client::TlsStream<TcpStream> {
    let address = identity().addresses[0].clone();
    let (host, _) = address.rsplit_once(':').unwrap();
    let stream = TcpStream::connect(&address).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

fn own_config() -> ClientConfig {
    let identity = identity();
    tls::agent_config(identity.authority(), identity.certificate(), identity.tls_key()).unwrap()
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

/// Bytes that are no message end the connection they came on.
async fn is_let_go<S: AsyncRead + AsyncWrite>(stream: S, bytes: &[u8]) {
    let (read, mut write) = tokio::io::split(stream);
    let mut reader = Reader::<_, serde_json::Value>::new(read, MAX_BYTES);
    let said = async {
        // It may be let go before it has said all.
        let _ = write.write_all(bytes).await;
        let _ = write.flush().await;
        // Held open: it is not our end that ends it.
        std::future::pending::<()>().await;
    };
    let heard = async { while reader.next().await.is_ok() {} };
    in_time(async {
        tokio::select! {
            () = said => {}
            () = heard => {}
        }
    })
    .await;
}

/// Malformed, cut short, of another protocol, and too long: as announced, and really.
fn nonsense() -> Vec<Vec<u8>> {
    let framed = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat();
    vec![
        framed(b"{}"),
        framed(b"{\"say\":\"document\",\"envelope\":{\"payloadType\":1}}"),
        framed(b"{\"say\":\"hello\",\"version\":"),
        framed(&[0xff; 64]),
        b"GET / HTTP/1.1\r\nHost: socle\r\n\r\n".to_vec(),
        [&u32::MAX.to_be_bytes()[..], &[b'x'; 100]].concat(),
        framed(&vec![b' '; MAX_BYTES + 1]),
    ]
}

/// Keeps what the controller sends to this server, which may have the newest already.
#[tokio::test]
#[ignore = "run inside a machine by another"]
async fn keeps_its_document() {
    let (read, write) = tokio::io::split(dial(own_config()).await);
    let (mut reader, mut writer) =
        (Reader::<_, ToAgent>::new(read, MAX_BYTES), Writer::<_, FromAgent>::new(write, MAX_BYTES));
    writer.send(&FromAgent::Hello { version: "test".to_owned(), position: None }).await.unwrap();
    let envelope = in_time(async {
        loop {
            if let ToAgent::Document { envelope } = reader.next().await.unwrap() {
                return envelope;
            }
        }
    })
    .await;
    std::fs::write(KEPT, envelope.to_json()).unwrap();
}

/// With the key and the certificate of one server, it asks the controller in the name of another.
#[tokio::test]
#[ignore = "run inside a machine by another"]
async fn speaks_as_another_server() {
    let me = Peer::of(&identity().certificate()).unwrap();
    let victim: Membership = serde_json::from_slice(&std::fs::read(VICTIM).unwrap()).unwrap();
    let other = Peer { server: victim.server, identity: victim.identity, ..me.clone() };
    let uri = SanType::URI(other.uri().try_into().unwrap());

    // A certificate in its name, of an authority of one's own, and of one's own certificate used as an authority.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri.clone()];
    let PrivateKeyDer::Pkcs8(own_key) = identity().tls_key() else { panic!("another form of key") };
    let own_key = KeyPair::try_from(&own_key).unwrap();
    let below = Issuer::from_ca_cert_der(&identity().certificate(), own_key).unwrap();
    let forged = [
        vec![params.self_signed(&key).unwrap().der().clone()],
        vec![params.signed_by(&key, &below).unwrap().der().clone(), identity().certificate()],
    ];
    for chain in forged {
        let (read, _write) = tokio::io::split(dial(config(chain, &key)).await);
        let mut reader = Reader::<_, ToAgent>::new(read, MAX_BYTES);
        // In TLS 1.3 the client is told at its first read.
        let heard = in_time(reader.next()).await;
        assert!(heard.is_err(), "{heard:?}");
    }

    // Its own certificate, and every word about the other: a request for a new certificate, one for a site of it.
    let (read, write) = tokio::io::split(dial(own_config()).await);
    let (mut reader, mut writer) =
        (Reader::<_, ToAgent>::new(read, MAX_BYTES), Writer::<_, FromAgent>::new(write, MAX_BYTES));
    writer.send(&FromAgent::Hello { version: "test".to_owned(), position: None }).await.unwrap();
    let csr = params.serialize_request(&key).unwrap().der().to_vec();
    writer.send(&FromAgent::Renew { csr: csr.clone() }).await.unwrap();
    let instance = INSTANCE.parse().unwrap();
    writer.send(&FromAgent::Certify { request: 1, instance, csr }).await.unwrap();
    let (mut certified, mut site) = (None, None);
    in_time(async {
        while certified.is_none() || site.is_none() {
            match reader.next().await.unwrap() {
                ToAgent::Certificate { certificate } => certified = Some(certificate),
                ToAgent::Certified { outcome, .. } => site = Some(outcome),
                ToAgent::Document { envelope } => {
                    let payload = envelope.open(&membership().document_keys).unwrap();
                    assert_eq!(payload.server, me.server, "a document of the other");
                }
                _ => {}
            }
        }
    })
    .await;
    assert_eq!(Peer::of(&CertificateDer::from(certified.unwrap())).unwrap(), me, "what is asked for does not count");
    assert!(matches!(site, Some(Certified::Refused { .. })), "{site:?}");

    for bytes in nonsense() {
        is_let_go(dial(own_config()).await, &bytes).await;
    }
}

fn config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(identity().authority()).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![tls::AGENT.to_vec()];
    config
}

/// In place of the link, at the door of the agent: documents that nobody signed, or somebody else, or for somebody else.
#[tokio::test]
#[ignore = "run inside a machine by another"]
async fn hands_over_what_the_controller_did_not_sign() {
    let read = |path: &str| Envelope::from_json(&std::fs::read(path).unwrap()).unwrap();
    let genuine = read(KEPT);
    let payload = genuine.open(&membership().document_keys).unwrap();
    let wicked = Payload { text: "schema = 1\n[files.\"/etc/motd\"]\ncontent = \"wicked\\n\"\n".to_owned(), ..payload };
    let next = Mark { epoch: wicked.mark.epoch, generation: Generation(wicked.mark.generation.0 + 1) };
    let wicked = Payload { mark: next, ..wicked };
    let stranger = SigningKey::from_seed([7; 32]);
    let by_stranger = Envelope::sign(&wicked, &[&stranger]);

    // Fields that no honest program would write.
    let edited = |envelope: &Envelope, edit: &dyn Fn(&mut serde_json::Value)| {
        let mut json = serde_json::to_value(envelope).unwrap();
        edit(&mut json);
        Envelope::from_json(&serde_json::to_vec(&json).unwrap()).unwrap()
    };
    let signed = serde_json::to_value(&genuine).unwrap();
    let in_its_name =
        edited(&by_stranger, &|json| json["signatures"][0]["keyid"] = signed["signatures"][0]["keyid"].clone());
    let other_words = edited(&by_stranger, &|json| json["signatures"] = signed["signatures"].clone());
    let long = Payload { text: "#".repeat(2 << 20), ..wicked.clone() };
    let documents = [
        ("unsigned", Envelope::sign(&wicked, &[]), "not signed"),
        ("of a stranger", by_stranger.clone(), "not signed"),
        ("in the controller's name", in_its_name, ""),
        ("with another document's signature", other_words, ""),
        ("unsigned and long", Envelope::sign(&long, &[]), "not signed"),
        ("of another server", read(OTHERS), "not for this server"),
        ("older", read(OLDER), "is not newer than"),
    ];
    let stream = UnixStream::connect(link_door::SOCKET).await.unwrap();
    let (read, write) = stream.into_split();
    let (mut reader, mut writer) =
        (Reader::<_, FromAgent>::new(read, MAX_BYTES), Writer::<_, ToAgent>::new(write, MAX_BYTES));
    for (what, envelope, why) in documents {
        writer.send(&ToAgent::Document { envelope }).await.unwrap();
        let answer = in_time(async {
            loop {
                match reader.next().await.unwrap() {
                    FromAgent::Accepted { position: Position { mark, .. } } => break Err(mark),
                    FromAgent::Refused { error, .. } => break Ok(error),
                    _ => {}
                }
            }
        })
        .await;
        let error = answer.unwrap_or_else(|mark| panic!("{what}: accepted as {mark}"));
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    // To be planned, which changes nothing, it must be signed as well.
    writer.send(&ToAgent::Plan { request: 1, envelope: by_stranger }).await.unwrap();
    let planned = in_time(async {
        loop {
            if let FromAgent::Planned { plan, .. } = reader.next().await.unwrap() {
                return plan;
            }
        }
    })
    .await;
    assert!(serde_json::to_string(&planned).unwrap().contains("fleet.envelope"), "{planned:?}");
    for bytes in nonsense() {
        is_let_go(UnixStream::connect(link_door::SOCKET).await.unwrap(), &bytes).await;
    }
    assert_ne!(wicked.purpose, Purpose::Plan);
    assert_ne!(wicked.digest(), Digest::of(""));
}
