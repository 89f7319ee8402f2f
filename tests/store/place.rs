//! Where a case has its database, and the values the cases are about.

use std::collections::BTreeMap;

use jiff::Timestamp;
use socle::controller::store::{By, NewDocuments, NewJoinToken, NewRevision, Put, Redemption, Server, Store, StoreUrl};
use socle::model::fleet::{Mark, Origin, Position};
use socle::model::{Digest, Generation, Name};
use socle::wire::PublicKey;
use socle::wire::token::TokenId;
use sqlx::Connection;
use uuid::Uuid;

use crate::postgres_server as postgres;

pub struct Place {
    pub url: StoreUrl,
    /// For the driver itself: the tests' own look into the database.
    pub raw: String,
    /// Removed at the end; `None` in a server that is removed whole.
    pub directory: Option<tempfile::TempDir>,
}

impl Place {
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("controller.db");
        Self { url: StoreUrl::sqlite(&path), raw: format!("sqlite://{}", path.display()), directory: Some(directory) }
    }

    pub async fn postgres(server: &postgres::Server, case: &str) -> Self {
        let raw = server.database(case).await;
        Self { url: raw.parse().unwrap(), raw, directory: None }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    /// A store with a fleet, and `servers` enrolled as `s0`, `s1` …
    pub async fn fleet(&self, servers: usize) -> Store {
        let store = self.open().await;
        store.create_fleet(id(1), &name("amis"), &by(0)).await.unwrap();
        for server in 0..servers {
            enrol(&store, &format!("s{server}"), server as u8 + 1).await;
        }
        store
    }

    /// Statements that no method of the store has.
    pub async fn execute(&self, sql: impl Into<String>) {
        sqlx::any::install_default_drivers();
        let mut connection = sqlx::AnyConnection::connect(&self.raw).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.into())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// All the database keeps, to look for what must not be there. The store is closed.
    pub fn bytes(&self) -> Vec<u8> {
        match &self.directory {
            Some(directory) => std::fs::read_dir(directory.path())
                .unwrap()
                .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
                .collect(),
            None => postgres::dump(&self.raw),
        }
    }
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

pub fn by(second: i64) -> By {
    By::new("uid:0", at(second))
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub fn key(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

pub fn token(number: u8, server: &str) -> NewJoinToken {
    NewJoinToken { id: TokenId([number; 8]), server: name(server), public_key: key(number), expires: at(3600) }
}

/// The machine `machine` (its keys, the id it would get) with the token `token`.
pub fn redemption(token: u8, machine: u8) -> Redemption {
    Redemption {
        token: TokenId([token; 8]),
        id: id(1000 + u128::from(machine)),
        identity: key(machine),
        sealing: [machine; 32],
    }
}

/// With a token and a machine of the same number.
pub async fn enrol(store: &Store, server: &str, number: u8) -> Server {
    store.create_join_token(&token(number, server), &by(1)).await.unwrap();
    store.redeem(&redemption(number, number), at(2)).await.unwrap()
}

pub fn mark(epoch: u32, generation: u64) -> Mark {
    Mark { epoch, generation: Generation(generation) }
}

pub fn position(mark: Mark) -> Position {
    Position { mark, digest: Digest::of("text"), origin: Origin::Controller, brought_about: None }
}

pub fn texts<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<Name, String> {
    texts.into_iter().map(|(server, text)| (name(server), text.to_owned())).collect()
}

pub fn direct<'a>(of: impl IntoIterator<Item = (&'a str, &'a str)>) -> NewDocuments {
    NewDocuments { texts: texts(of), revision: None }
}

pub fn revision(message: &str) -> NewRevision {
    let files = BTreeMap::from([("fleet.toml".to_owned(), format!("# {message}\n"))]);
    NewRevision { message: message.to_owned(), files }
}

/// Puts, and "signs" by writing down what was asked to be signed.
pub async fn put(store: &Store, new: &NewDocuments) -> Put {
    store.put_documents(new, &by(10), |unsigned| envelope(unsigned.server, unsigned.mark, unsigned.text)).await.unwrap()
}

pub fn envelope(server: &Name, mark: Mark, text: &str) -> Vec<u8> {
    format!("\0{server} {mark} {text}\u{ff}").into_bytes()
}
