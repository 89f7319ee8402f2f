//! How much is asked of an authority: half of what it allows, all of it only when a certificate is about to end.
//! Kept as data, `budget.json`, and written down before the order it is about.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::durable::{self, DurableError};
use crate::model::Name;
use crate::model::certificate::{CertifiedName, Limits};

const HOURS_3: SignedDuration = SignedDuration::from_hours(3);
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    #[error("cannot keep what was asked of the authority `{0}`")]
    Keep(Name, #[source] DurableError),
    #[error("what was asked of the authority `{name}`, `{path}`, is damaged")]
    Damaged { name: Name, path: PathBuf, source: serde_json::Error },
}

/// What was asked of one authority lately.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Budget {
    orders: Vec<Order>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    at: Timestamp,
    names: Vec<CertifiedName>,
    /// It replaced a certificate as the authority had asked: such orders are exempt from its limits.
    exempt: bool,
    /// A certificate may have come of it. So it is assumed until it is known that none did.
    issued: bool,
}

/// What is to be ordered.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub names: &'a [CertifiedName],
    pub exempt: bool,
    pub urgent: bool,
}

/// A limit that is reached, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at `{limit}` until {until}")]
pub struct Full {
    pub what: &'static str,
    pub limit: u32,
    pub until: Timestamp,
}

impl Budget {
    pub fn load(directory: &Path, name: &Name) -> Result<Self, BudgetError> {
        let path = path(directory);
        let bytes = durable::read(&path).map_err(|error| BudgetError::Keep(name.clone(), error))?;
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|source| BudgetError::Damaged { name: name.clone(), path, source })
    }

    pub fn keep(&self, directory: &Path, name: &Name) -> Result<(), BudgetError> {
        let keep = |error| BudgetError::Keep(name.clone(), error);
        let made = std::fs::create_dir_all(directory);
        made.map_err(|error| keep(DurableError::Write(directory.to_owned(), error)))?;
        let bytes = serde_json::to_vec(self).expect("a budget is plain data");
        durable::write(&path(directory), &bytes, 0o600).map_err(keep)
    }

    /// Whether this may be ordered now.
    pub fn allows(&self, asked: Asked<'_>, limits: &Limits, now: Timestamp) -> Result<(), Full> {
        let share = |limit: u32| if asked.urgent { limit } else { (limit / 2).max(1) };
        let counted = |order: &&Order| !order.exempt;
        if !asked.exempt {
            let orders = self.orders.iter().filter(counted).map(|order| order.at);
            within(orders, share(limits.orders_per_3h), HOURS_3, now, "orders in three hours")?;
            for domain in domains(asked.names) {
                let issued = self.orders.iter().filter(counted).filter(|order| order.issued);
                let of_it = issued.filter(|order| domains(&order.names).contains(&domain));
                let limit = share(limits.certificates_per_domain_7d);
                within(of_it.map(|order| order.at), limit, WEEK, now, "certificates of one domain in a week")?;
            }
        }
        // Also what is exempt: an authority that always asks for a renewal must not be served for ever.
        let limit = if asked.exempt { limits.duplicates_7d } else { share(limits.duplicates_7d) };
        let same = self.orders.iter().filter(|order| order.issued && is_same(&order.names, asked.names));
        within(same.map(|order| order.at), limit, WEEK, now, "certificates with the same names in a week")
    }

    /// Writes an order down; what is older than every limit is forgotten.
    pub fn note(&mut self, asked: Asked<'_>, now: Timestamp) {
        self.orders.retain(|order| order.at + WEEK > now);
        self.orders.push(Order { at: now, names: asked.names.to_vec(), exempt: asked.exempt, issued: true });
    }

    /// The order written down at `at` came to nothing before a certificate was asked for.
    pub fn came_to_nothing(&mut self, names: &[CertifiedName], at: Timestamp) {
        let order = self.orders.iter_mut().find(|order| order.at == at && order.issued && is_same(&order.names, names));
        if let Some(order) = order {
            order.issued = false;
        }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("budget.json")
}

/// `times` grow.
fn within(
    times: impl Iterator<Item = Timestamp>,
    limit: u32,
    span: SignedDuration,
    now: Timestamp,
    what: &'static str,
) -> Result<(), Full> {
    let recent: Vec<Timestamp> = times.filter(|at| *at + span > now).collect();
    match recent.len().checked_sub(limit as usize) {
        None => Ok(()),
        // When so many have passed that one more fits.
        Some(over) => Err(Full { what, limit, until: recent[over] + span }),
    }
}

fn is_same(one: &[CertifiedName], other: &[CertifiedName]) -> bool {
    one.len() == other.len() && one.iter().all(|name| other.contains(name))
}

/// The registered domains: what a limit "per domain" counts.
fn domains(names: &[CertifiedName]) -> std::collections::BTreeSet<String> {
    let registered = |name: &CertifiedName| {
        let domain = name.domain().as_str();
        psl::domain_str(domain).unwrap_or(domain).to_owned()
    };
    names.iter().map(registered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn names(names: &[&str]) -> Vec<CertifiedName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn asked(names: &[CertifiedName]) -> Asked<'_> {
        Asked { names, exempt: false, urgent: false }
    }

    const LIMITS: Limits = Limits { orders_per_3h: 300, certificates_per_domain_7d: 10, duplicates_7d: 5 };

    #[test]
    fn half_of_the_limits_and_all_of_them_when_urgent() {
        let mut budget = Budget::default();
        let same = names(&["a.example.org", "b.example.org"]);
        for at in 0..2 {
            budget.allows(asked(&same), &LIMITS, now()).unwrap();
            budget.note(asked(&same), now() + SignedDuration::from_hours(at));
        }
        let full = budget.allows(asked(&same), &LIMITS, now() + HOURS_3).unwrap_err();
        assert_eq!((full.limit, full.until), (2, now() + WEEK));
        let urgent = Asked { urgent: true, ..asked(&same) };
        budget.allows(urgent, &LIMITS, now() + HOURS_3).unwrap();
        budget.allows(asked(&same), &LIMITS, now() + WEEK).unwrap();
        budget.allows(Asked { exempt: true, ..asked(&same) }, &LIMITS, now()).unwrap();
        let backwards = names(&["b.example.org", "a.example.org"]);
        assert!(budget.allows(asked(&backwards), &LIMITS, now()).is_err());
    }

    #[test]
    fn orders_without_a_certificate_count_as_orders_only() {
        let mut budget = Budget::default();
        let same = names(&["a.example.org"]);
        let limits = Limits { orders_per_3h: 20, ..LIMITS };
        for _ in 0..9 {
            budget.allows(asked(&same), &limits, now()).unwrap();
            budget.note(asked(&same), now());
            budget.came_to_nothing(&same, now());
        }
        budget.note(asked(&same), now());
        assert_eq!(budget.allows(asked(&same), &limits, now()).unwrap_err().what, "orders in three hours");
    }

    #[test]
    fn domains_are_counted_below_public_suffixes() {
        let mut budget = Budget::default();
        for at in 0..5 {
            budget.note(asked(&names(&[&format!("n{at}.one.asso.fr")])), now());
        }
        let full = budget.allows(asked(&names(&["new.one.asso.fr"])), &LIMITS, now()).unwrap_err();
        assert_eq!(full.what, "certificates of one domain in a week");
        budget.allows(asked(&names(&["new.two.asso.fr"])), &LIMITS, now()).unwrap();
        let exempt = Asked { exempt: true, ..asked(&[]) };
        let mut budget = Budget::default();
        (0..50).for_each(|_| budget.note(exempt, now()));
        budget.allows(asked(&names(&["a.org"])), &LIMITS, now()).unwrap();
    }

    #[test]
    fn orders_in_three_hours_and_what_is_kept() {
        let mut budget = Budget::default();
        let limits = Limits { orders_per_3h: 4, ..LIMITS };
        for (at, name) in ["a.org", "b.org"].iter().enumerate() {
            budget.note(asked(&names(&[name])), now() + SignedDuration::from_hours(at as i64));
        }
        let new = names(&["c.org"]);
        let full = budget.allows(asked(&new), &limits, now() + SignedDuration::from_hours(2)).unwrap_err();
        assert_eq!(full.until, now() + HOURS_3);
        budget.allows(asked(&new), &limits, full.until).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let name: Name = "letsencrypt".parse().unwrap();
        assert_eq!(Budget::load(dir.path(), &name).unwrap(), Budget::default());
        budget.keep(dir.path(), &name).unwrap();
        assert_eq!(Budget::load(dir.path(), &name).unwrap(), budget);
        budget.note(asked(&new), now() + WEEK * 2);
        assert_eq!(budget.orders.len(), 1);
        std::fs::write(path(dir.path()), "[").unwrap();
        assert!(matches!(Budget::load(dir.path(), &name), Err(BudgetError::Damaged { .. })));
    }
}
