//! From texts to signed documents that agents accept, and to plans that agents compute.

use std::collections::BTreeMap;

use super::Controller;
use super::hub::AskError;
use super::store::{By, NewDocuments, NewRevision, PutError, Server, ServerState, StoreError, Unsigned};
use crate::model::fleet::{Mark, Origin};
use crate::model::{Digest, Name};
use crate::wire::envelope::{Payload, Purpose};
use crate::wire::message::Planned;

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error(transparent)]
    Put(#[from] PutError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("there is no server `{0}`")]
    NoSuchServer(Name),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("`{server}` did not answer within {seconds} s")]
    Late { server: Name, seconds: u64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a push came to. Agents are told at once; what they make of it they say themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pushed {
    /// Servers with a new document.
    pub marks: BTreeMap<Name, Mark>,
    /// Servers whose newest document says this already, and that have not gone another way.
    pub unchanged: Vec<Name>,
    pub revision: Option<u64>,
}

impl Controller {
    /// Gives each server its new document. Durable when it returns.
    pub async fn push(
        &self,
        texts: BTreeMap<Name, String>,
        revision: Option<NewRevision>,
        by: &By,
    ) -> Result<Pushed, PushError> {
        let newest: BTreeMap<_, _> =
            self.store.newest_marks().await?.into_iter().map(|newest| (newest.server.clone(), newest)).collect();
        let servers: BTreeMap<_, _> =
            self.store.servers().await?.into_iter().map(|server| (server.name.clone(), server)).collect();
        let (changed, unchanged): (BTreeMap<_, _>, BTreeMap<_, _>) = texts.into_iter().partition(|(name, text)| {
            let own = newest.get(name).map(|newest| (newest.mark, newest.digest));
            is_news(Digest::of(text), own, servers.get(name))
        });
        let unchanged = unchanged.into_keys().collect();
        if changed.is_empty() && revision.is_none() {
            return Ok(Pushed { unchanged, ..Pushed::default() });
        }
        let new = NewDocuments { texts: changed, revision };
        let put = self.store.put_documents(&new, by, |unsigned| self.sign(unsigned)).await?;
        Ok(Pushed { marks: put.marks, unchanged, revision: put.revision })
    }

    /// Gives a server a document whatever it had before: what was signed for an earlier enrolment is of no use to
    /// it.
    pub async fn push_anew(&self, server: &Name, text: String, by: &By) -> Result<Pushed, PushError> {
        let new = NewDocuments { texts: BTreeMap::from([(server.clone(), text)]), revision: None };
        let put = self.store.put_documents(&new, by, |unsigned| self.sign(unsigned)).await?;
        Ok(Pushed { marks: put.marks, ..Pushed::default() })
    }

    fn sign(&self, unsigned: &Unsigned<'_>) -> Vec<u8> {
        let payload = Payload {
            purpose: Purpose::Document,
            fleet: self.fleet.id,
            server: unsigned.server.clone(),
            identity: unsigned.identity,
            mark: unsigned.mark,
            issued: unsigned.now,
            file: label(unsigned.server),
            text: unsigned.text.to_owned(),
        };
        self.keys.envelope(&payload).to_json()
    }

    /// What a text would change on a server, as the server itself says. Changes nothing.
    pub async fn plan(&self, server: &Name, text: &str, patience: std::time::Duration) -> Result<Planned, PlanError> {
        let known = self.store.server(server).await?.filter(|server| server.state == ServerState::Enrolled);
        let known = known.ok_or_else(|| PlanError::NoSuchServer(server.clone()))?;
        let payload = Payload {
            purpose: Purpose::Plan,
            fleet: self.fleet.id,
            server: server.clone(),
            identity: known.identity.id(),
            mark: Mark::default(),
            issued: (self.now)(),
            file: label(server),
            text: text.to_owned(),
        };
        let envelope = self.keys.envelope(&payload);
        let late = |_| PlanError::Late { server: server.clone(), seconds: patience.as_secs() };
        Ok(tokio::time::timeout(patience, self.hub.plan(server, envelope)).await.map_err(late)??)
    }
}

/// How the document of a server is called on that server.
fn label(server: &Name) -> String {
    format!("the fleet's document of {server}")
}

/// Whether a text is to become a new document: it differs from the newest one, or the server stands somewhere
/// else meanwhile (a local apply; a newer document that this database forgot).
fn is_news(digest: Digest, own: Option<(Mark, Digest)>, server: Option<&Server>) -> bool {
    let Some((mark, newest)) = own else { return true };
    let went_away = server.and_then(|server| server.position.as_ref()).is_some_and(|position| {
        let elsewhere = position.mark > mark || position.origin == Origin::Local;
        elsewhere && (position.digest != digest || position.mark > mark)
    });
    newest != digest || went_away
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Generation;
    use crate::model::fleet::Position;
    use crate::wire::PublicKey;

    fn mark(generation: u64) -> Mark {
        Mark { epoch: 0, generation: Generation(generation) }
    }

    fn at(generation: u64, text: &str, origin: Origin) -> Server {
        let position = Position { mark: mark(generation), digest: Digest::of(text), origin, brought_about: None };
        Server {
            name: "ks1".parse().unwrap(),
            id: uuid::Uuid::nil(),
            identity: PublicKey([0; 32]),
            sealing: [0; 32],
            state: ServerState::Enrolled,
            enrolled_at: jiff::Timestamp::UNIX_EPOCH,
            certificate: None,
            recovery_sequence: 0,
            last_seen: None,
            connected_to: None,
            position: Some(position),
            agent_version: None,
            acknowledged: 0,
        }
    }

    #[test]
    fn a_document_is_news_when_it_differs_or_the_server_went_another_way() {
        let a = Digest::of("a");
        let own = Some((mark(3), a));
        assert!(is_news(a, None, None));
        assert!(is_news(Digest::of("b"), own, None));
        assert!(!is_news(a, own, None));
        assert!(!is_news(a, own, Some(&at(3, "a", Origin::Controller))));
        assert!(!is_news(a, own, Some(&at(2, "old", Origin::Controller))), "it gets the one that is there");
        assert!(is_news(a, own, Some(&at(4, "mine", Origin::Local))));
        assert!(is_news(a, own, Some(&at(7, "forgotten", Origin::Controller))));
        assert!(is_news(a, own, Some(&at(3, "mine", Origin::Local))), "both went to 3 at once");
    }
}
