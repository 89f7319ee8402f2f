//! The keys that sign documents, one after the other: each says which one follows it.
//!
//! A server believes the key it was told of when it enrolled, or the one it took over since. These statements travel
//! with every document, so that however many keys came meanwhile, a server that was away finds its way to the present
//! one; and a key that was left behind is believed no more.

use serde::{Deserialize, Serialize};

use super::envelope::{EnvelopeError, pre_authentication_encoding};
use super::key::{self, PublicKey, SigningKey};
use crate::model::Digest;

/// More than a key a month for five years.
pub const MAX_LINKS: usize = 64;

const PAYLOAD_TYPE: &str = "application/vnd.socle.succession+json";

/// A key names its successor. Verified before it is parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Of the key that signs: the one that is followed.
    keyid: Digest,
    #[serde(with = "key::bytes")]
    statement: Vec<u8>,
    #[serde(with = "key::bytes")]
    sig: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    from: PublicKey,
    to: PublicKey,
    issued: jiff::Timestamp,
}

impl Link {
    /// Only whoever has the key that is left can say this.
    pub fn sign(from: &SigningKey, to: PublicKey, issued: jiff::Timestamp) -> Self {
        let statement = Statement { from: from.public(), to, issued };
        let statement = serde_json::to_vec(&statement).expect("a statement is plain data");
        let sig = from.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &statement));
        Self { keyid: from.public().id(), statement, sig }
    }

    /// The key that follows `from`, which signed this.
    fn successor(&self, from: PublicKey) -> Result<PublicKey, EnvelopeError> {
        from.verify(&pre_authentication_encoding(PAYLOAD_TYPE, &self.statement), &self.sig)?;
        let unreadable = |error: serde_json::Error| EnvelopeError::Succession(error.to_string());
        let statement: Statement = serde_json::from_slice(&self.statement).map_err(unreadable)?;
        match statement.from == from {
            true => Ok(statement.to),
            false => Err(EnvelopeError::Succession("it names another key than the one that signed it".to_owned())),
        }
    }
}

/// Whom to believe, having believed `trusted` and seen these, the oldest first: the last that follows one of them, or
/// still those. What came before the server's own time says nothing to it.
pub fn follow(links: &[Link], trusted: &[PublicKey]) -> Result<Vec<PublicKey>, EnvelopeError> {
    if links.len() > MAX_LINKS {
        return Err(EnvelopeError::Succession(format!("it has {} keys, more than {MAX_LINKS}", links.len())));
    }
    let mut now = trusted.to_vec();
    for link in links {
        if let Some(from) = now.iter().find(|key| key.id() == link.keyid) {
            now = vec![link.successor(*from)?];
        }
    }
    Ok(now)
}

/// Whether these lead from key to key without a gap, and end at `last`.
pub fn leads_to(links: &[Link], last: PublicKey) -> bool {
    let Some(first) = links.first() else { return true };
    let statement: Option<Statement> = serde_json::from_slice(&first.statement).ok();
    let Some(mut now) = statement.map(|statement| statement.from) else { return false };
    for link in links {
        match link.successor(now) {
            Ok(next) if link.keyid == now.id() => now = next,
            _ => return false,
        }
    }
    now == last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed([n; 32])
    }

    fn trusts(n: u8) -> Vec<PublicKey> {
        vec![key(n).public()]
    }

    fn link(from: u8, to: u8) -> Link {
        Link::sign(&key(from), key(to).public(), jiff::Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn whoever_was_away_finds_the_present_key() {
        let links = [link(1, 2), link(2, 3), link(3, 4)];
        for knew in 1..=4 {
            assert_eq!(follow(&links, &trusts(knew)), Ok(trusts(4)), "who knew {knew}");
        }
        assert_eq!(follow(&[], &trusts(1)), Ok(trusts(1)));
        // Somebody else's fleet, or one that was made anew.
        assert_eq!(follow(&links, &trusts(9)), Ok(trusts(9)));
        assert!(leads_to(&links, key(4).public()) && leads_to(&[], key(1).public()));
        assert!(!leads_to(&links, key(3).public()) && !leads_to(&[link(1, 2), link(3, 4)], key(4).public()));
    }

    #[test]
    fn a_key_that_was_left_names_nobody_any_more() {
        // Whoever stole the first key says another one follows it: too late for a server that went on.
        let stolen = [link(1, 2), link(1, 9)];
        assert_eq!(follow(&stolen, &trusts(1)), Ok(trusts(2)), "the first of two successors is followed");
        assert_eq!(follow(&[link(1, 9)], &trusts(2)), Ok(trusts(2)));
        assert!(!leads_to(&stolen, key(9).public()));
    }

    #[test]
    fn nothing_of_a_statement_can_be_changed() {
        let good = link(1, 2);
        let bytes = serde_json::to_vec(&good).unwrap();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                let Ok(changed) = serde_json::from_slice::<Link>(&changed) else { continue };
                let followed = follow(&[changed], &trusts(1));
                assert!(
                    followed.as_ref().map_or(true, |now| *now == trusts(1) || *now == trusts(2)),
                    "{at}: {followed:?}"
                );
            }
        }
        // Signed by another key in the name of the trusted one; a statement about another key; too many.
        let forged = Link { keyid: key(1).public().id(), ..link(9, 9) };
        assert!(follow(&[forged], &trusts(1)).is_err());
        let other = Statement { from: key(7).public(), to: key(9).public(), issued: jiff::Timestamp::UNIX_EPOCH };
        let statement = serde_json::to_vec(&other).unwrap();
        let sig = key(1).sign(&pre_authentication_encoding(PAYLOAD_TYPE, &statement));
        let wrong = Link { keyid: key(1).public().id(), statement, sig };
        assert!(matches!(follow(&[wrong], &trusts(1)), Err(EnvelopeError::Succession(_))));
        assert!(matches!(follow(&vec![good; MAX_LINKS + 1], &trusts(1)), Err(EnvelopeError::Succession(_))));
    }
}
