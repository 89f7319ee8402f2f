//! How a server is reached and known: authorities of one's own, and local sockets for who has no network.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use socle::host::Quiet;
use socle::host::vault::{Access, Location, Vault, Way};
use socle::model::Secret;
use tokio::net::{TcpStream, UnixListener};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::far::{self, S3_SECRET};
use crate::tree::{assert_same, plant};
use crate::{Bench, tree_order};

/// An authority of one's own: its certificate, and the chain and key of a server that it knows.
struct Own {
    roots: String,
    certificate: String,
    key: String,
}

fn own(name: &str) -> Own {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let roots = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    Own { roots, certificate: params.signed_by(&key, &issuer).unwrap().pem(), key: key.serialize_pem() }
}

async fn rest(bench: &Bench, own: &Own) -> far::Server {
    let (certificate, key) = (bench.path("certificate.pem"), bench.path("key.pem"));
    std::fs::write(&certificate, &own.certificate).unwrap();
    std::fs::write(&key, &own.key).unwrap();
    let with = ["--cert", certificate.to_str().unwrap(), "--key", key.to_str().unwrap()];
    far::rest(&bench.repository(), &with).await
}

/// What leads to `port`, protected.
async fn protected(port: u16, own: &Own) -> u16 {
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who does not trust it ends here.
                let Ok(mut near) = acceptor.accept(socket).await else { return };
                let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    near
}

async fn works(bench: &Bench, access: &Access) {
    assert!(bench.vault.make(access).await.unwrap());
    let from = bench.path("from");
    plant(&from, 1);
    let saved = bench.vault.save(access, tree_order(&from, 0), &Quiet).await.unwrap();
    let to = bench.path("to");
    bench.vault.restore(access, &saved.snapshot.id, Path::new("/data"), &to, &Quiet).await.unwrap();
    assert_same(&from, &to);
}

/// It is taken with its own roots, and with no others, and that is told at once.
async fn only_with_its_roots(bench: &Bench, access: Access, own: &Own) {
    let trusting = |roots: Option<&str>| {
        let way = Way { roots: roots.map(str::to_owned), ..Way::default() };
        Access { way, ..access.clone() }
    };
    let other = self::own("127.0.0.1");
    for roots in [None, Some(&*other.roots)] {
        let error = bench.vault.make(&trusting(roots)).await.unwrap_err();
        assert_eq!((error.code, error.retryable), ("vault.certificate", false), "{error}");
        assert!(error.hint.unwrap().contains("roots = "));
    }
    let nonsense = bench.vault.make(&trusting(Some("nonsense"))).await.unwrap_err();
    assert!(nonsense.to_string().contains("no certificate in its `roots`"), "{nonsense}");
    works(bench, &trusting(Some(&own.roots))).await;
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named_over_rest() {
    let bench = Bench::bare();
    let own = own("127.0.0.1");
    let server = rest(&bench, &own).await;
    let user = Some(("blog".to_owned(), Secret::new("hush")));
    let location = Location::Rest { url: format!("https://127.0.0.1:{}/blog", server.port), user };
    only_with_its_roots(&bench, Access { location, ..bench.access.clone() }, &own).await;
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named_over_s3() {
    let bench = Bench::bare();
    let own = own("127.0.0.1");
    let port = protected(far::s3(&bench).await, &own).await;
    let mut access = far::over_s3(&bench, port, S3_SECRET);
    let Location::S3 { endpoint, .. } = &mut access.location else { unreachable!() };
    *endpoint = endpoint.replace("http:", "https:");
    only_with_its_roots(&bench, access, &own).await;
}

#[tokio::test]
async fn a_certificate_of_another_name_is_not_taken() {
    let bench = Bench::bare();
    let own = own("backup.example.org");
    let server = rest(&bench, &own).await;
    let user = Some(("blog".to_owned(), Secret::new("hush")));
    let location = Location::Rest { url: format!("https://127.0.0.1:{}/blog", server.port), user };
    let way = Way { roots: Some(own.roots.clone()), ..Way::default() };
    let error = bench.vault.make(&Access { location, way, ..bench.access.clone() }).await.unwrap_err();
    assert_eq!((error.code, error.retryable), ("vault.certificate", false), "{error}");
}

/// A local socket that leads to `port`, as systemd-socket-proxyd makes one.
fn socket_to(bench: &Bench, port: u16) -> PathBuf {
    let path = bench.path("way");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                // A server that is not there: the connection ends without a word.
                let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    path
}

/// No name is looked up, and nothing else is dialled: these have no address.
#[tokio::test]
async fn who_has_no_network_goes_over_a_local_socket() {
    let bench = Bench::bare();
    let own = own("backup.invalid");
    let server = rest(&bench, &own).await;
    let user = Some(("blog".to_owned(), Secret::new("hush")));
    let location = Location::Rest { url: "https://backup.invalid/blog".to_owned(), user };
    let way = Way { through: Some(socket_to(&bench, server.port)), roots: Some(own.roots.clone()) };
    works(&bench, &Access { location, way, ..bench.access.clone() }).await;

    let bench = Bench::bare();
    let port = far::s3(&bench).await;
    let mut access = far::over_s3(&bench, port, S3_SECRET);
    access.way.through = Some(socket_to(&bench, port));
    works(&bench, &access).await;

    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let mut access = sshd.access(&bench);
    let Location::Sftp { host, .. } = &mut access.location else { unreachable!() };
    *host = "backup.invalid".to_owned();
    access.way.through = Some(socket_to(&bench, sshd.server.port));
    works(&bench, &access).await;
}

#[tokio::test]
async fn a_way_that_leads_nowhere_is_told() {
    let bench = Bench::bare();
    let sshd = far::sshd(bench.directory.path()).await;
    let missing = bench.path("missing");
    let nobody = socket_to(&bench, far::free_port());
    for (socket, mut access) in [
        (&missing, far::over_rest(&bench, 1, "hush")),
        (&nobody, far::over_rest(&bench, 1, "hush")),
        (&missing, sshd.access(&bench)),
        (&nobody, sshd.access(&bench)),
    ] {
        access.way.through = Some(socket.clone());
        let error = bench.vault.make(&access).await.unwrap_err();
        assert_eq!((error.code, error.retryable), ("vault.unreachable", true), "{error}");
        if matches!(access.location, Location::Rest { .. }) {
            assert!(error.to_string().contains(socket.to_str().unwrap()), "{error}");
        }
    }
}
