//! A client of the protocol, for what an agent would and would not say.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socle::agent::enrolment::{Identity, Membership};
use socle::model::fleet::{Origin, Position};
use socle::model::{Digest, Generation};
use socle::wire::envelope::Payload;
use socle::wire::frame::{FrameError, Reader, Writer};
use socle::wire::message::{FromAgent, MAX_BYTES, ToAgent};
use socle::wire::{Envelope, tls};
use tokio::io::{ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::world::{Machine, World};

type Stream = TlsStream<TcpStream>;

pub struct Client {
    pub reader: Reader<ReadHalf<Stream>, ToAgent>,
    pub writer: Writer<WriteHalf<Stream>, FromAgent>,
    pub membership: Membership,
    /// What the controller had when it was greeted.
    pub stored: u64,
}

pub async fn dial(world: &World, config: ClientConfig) -> std::io::Result<Stream> {
    let stream = TcpStream::connect(world.address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

impl Client {
    /// Connects without a word.
    pub async fn connect(world: &World, machine: &Machine) -> std::io::Result<Self> {
        let identity = Identity::load(&machine.path()).unwrap().unwrap();
        let config = tls::agent_config(identity.authority(), identity.certificate(), identity.tls_key()).unwrap();
        let (read, write) = tokio::io::split(dial(world, config).await?);
        let membership = Membership::load(&machine.path()).unwrap().unwrap();
        Ok(Self { reader: Reader::new(read, MAX_BYTES), writer: Writer::new(write, MAX_BYTES), membership, stored: 0 })
    }

    /// Connects and says where it stands.
    pub async fn hello(world: &World, machine: &Machine, position: Option<Position>) -> Self {
        let mut client = Self::connect(world, machine).await.unwrap();
        client.say(FromAgent::Hello { version: "test".to_owned(), position }).await;
        assert_eq!(client.hear().await, ToAgent::Welcome);
        let ToAgent::Stored { sequence } = client.hear().await else { panic!("not told what is stored") };
        client.stored = sequence;
        client
    }

    pub async fn say(&mut self, message: FromAgent) {
        self.writer.send(&message).await.unwrap();
    }

    pub async fn hear(&mut self) -> ToAgent {
        self.try_hear().await.unwrap()
    }

    pub async fn try_hear(&mut self) -> Result<ToAgent, FrameError> {
        let heard = tokio::time::timeout(std::time::Duration::from_secs(20), self.reader.next());
        heard.await.expect("an answer in time")
    }

    /// The next message, which is a document signed by the fleet for this server.
    pub async fn document(&mut self) -> Payload {
        match self.hear().await {
            ToAgent::Document { envelope } => self.open(&envelope),
            other => panic!("not a document: {other:?}"),
        }
    }

    pub fn open(&self, envelope: &Envelope) -> Payload {
        let payload = envelope.open(&self.membership.document_keys).unwrap();
        payload.is_for(self.membership.fleet, &self.membership.server, self.membership.identity).unwrap();
        payload
    }

    pub async fn accept(&mut self, payload: &Payload) {
        self.say(FromAgent::Accepted { position: position(payload, Origin::Controller) }).await;
    }
}

pub fn position(payload: &Payload, origin: Origin) -> Position {
    Position { mark: payload.mark, digest: payload.digest(), origin, brought_about: None }
}

pub fn at(generation: u64, text: &str, origin: Origin) -> Position {
    let mark = socle::model::fleet::Mark { epoch: 0, generation: Generation(generation) };
    Position { mark, digest: Digest::of(text), origin, brought_about: None }
}
