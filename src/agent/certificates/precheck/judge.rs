//! What the looked-up facts say of a name. Pure.
//!
//! The answer to a question asked at the domain's own address weighs most: whoever gives our secret file back leads
//! here, through whatever translation of addresses. Only where it does not come back do addresses matter.
//!
//! What could not be looked up is no problem: an authority looks from elsewhere and with more patience, and a name
//! whose certificate ends must not wait for our resolver. What is certain to fail is not ordered: it would use up the
//! authority's patience with the account.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::caa;
use crate::agent::certificates::watch::NameProblem;
use crate::host::dns::lookup::{Addresses, CaaSet};
use crate::model::certificate::{CertifiedName, Challenge};

/// A fact, or why it could not be looked up.
pub type Looked<T> = Result<T, String>;

/// What came back when our file was asked for at one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Ours,
    /// Somebody answers, with something else: the status.
    Other(u16),
    /// Nobody answered; why.
    Nobody(String),
}

/// All that was looked up for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// HTTP-01 only.
    pub addresses: Option<Looked<Addresses>>,
    /// For each address of the name.
    pub answers: Vec<(IpAddr, Answer)>,
    pub caa: Looked<Option<CaaSet>>,
    /// DNS-01 only: whether the record's own name and its zone were found.
    pub zone: Option<Looked<()>>,
}

/// Every problem of one name, and what could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    pub problems: Vec<NameProblem>,
    pub unknown: Vec<String>,
}

/// `own`: the addresses of this machine's interfaces, which may all be behind a translation.
pub fn judge(
    name: &CertifiedName,
    facts: &Facts,
    own: &BTreeSet<IpAddr>,
    identities: &[String],
    challenge: &Challenge,
) -> Judgement {
    let mut judgement = Judgement::default();
    let mut problem = |what: String, hint: String| {
        judgement.problems.push(NameProblem { name: name.clone(), what, hint });
    };
    let domain = name.domain();
    match &facts.caa {
        Ok(Some(set)) => {
            if let Some(what) = caa::forbids(set, name, identities, challenge) {
                let allowed = identities.first().map_or("the authority", String::as_str);
                problem(format!("`{name}`: {what}"), format!("add `{} CAA 0 issue \"{allowed}\"`", set.at));
            }
        }
        Ok(None) => {}
        Err(error) => judgement.unknown.push(error.clone()),
    }
    let mut problem = |what: String, hint: String| {
        judgement.problems.push(NameProblem { name: name.clone(), what, hint });
    };
    match &facts.addresses {
        Some(Ok(addresses)) if addresses.all().next().is_none() => problem(
            format!("`{domain}` has no address"),
            format!("add an A or AAAA record for `{domain}` that leads to this server"),
        ),
        Some(Ok(_)) => {
            for (address, answer) in &facts.answers {
                match wrong(*address, answer, own) {
                    Verdict::Fine => {}
                    Verdict::Wrong(what, hint) => problem(format!("`{domain}` {what}"), hint),
                    Verdict::Unknown(why) => judgement.unknown.push(format!("`{domain}` {why}")),
                }
            }
        }
        Some(Err(error)) => judgement.unknown.push(error.clone()),
        None => {}
    }
    if let Some(Err(error)) = &facts.zone {
        judgement.unknown.push(error.clone());
    }
    judgement
}

enum Verdict {
    Fine,
    Wrong(String, String),
    Unknown(String),
}

fn wrong(address: IpAddr, answer: &Answer, own: &BTreeSet<IpAddr>) -> Verdict {
    let record = if address.is_ipv4() { "A" } else { "AAAA" };
    let ours = own.contains(&address);
    let comparable = own.iter().any(|own| own.is_ipv4() == address.is_ipv4() && scope(own) == scope(&address));
    let elsewhere = || {
        let of = |wanted| own.iter().filter(move |own| own.is_ipv4() == address.is_ipv4() && scope(own) == wanted);
        let mut here: Vec<_> = of(Scope::World).map(ToString::to_string).collect();
        if here.is_empty() && scope(&address) == Scope::Site {
            here = of(Scope::Site).map(ToString::to_string).collect();
        }
        let hint = match here.is_empty() {
            true => format!("remove the {record} record for {address}, or make it lead here"),
            false => format!("change the {record} record from {address} to {}", here.join(" or ")),
        };
        Verdict::Wrong(format!("leads to {address}, which is not this server"), hint)
    };
    match answer {
        Answer::Ours => Verdict::Fine,
        Answer::Other(status) if ours => Verdict::Wrong(
            format!("leads here ({address}), but the proof is not served: status {status}"),
            "socle agent apply, then look at the site's nginx configuration".to_owned(),
        ),
        Answer::Nobody(why) if ours => Verdict::Wrong(
            format!("leads here ({address}), but port 80 does not answer: {why}"),
            "systemctl status nginx".to_owned(),
        ),
        Answer::Other(status) if !comparable && address.is_ipv4() => Verdict::Unknown(format!(
            "answers at {address} with status {status}, which may be what translates our addresses"
        )),
        // IPv6 is not translated: an address that is not here is elsewhere.
        Answer::Other(_) => elsewhere(),
        Answer::Nobody(_) if comparable => elsewhere(),
        // Behind a translation that does not lead back in, or without this family here.
        Answer::Nobody(why) => Verdict::Unknown(format!("could not be asked at {address}: {why}")),
    }
}

/// How far an address reaches. Two of one scope can be compared; between scopes somebody translates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Machine,
    Link,
    Site,
    World,
}

fn scope(address: &IpAddr) -> Scope {
    let (machine, link, site) = match address {
        IpAddr::V4(v4) => {
            // RFC 6598: between a provider and its customers.
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            (v4.is_loopback() || v4.is_unspecified(), v4.is_link_local(), v4.is_private() || shared)
        }
        IpAddr::V6(v6) => (v6.is_loopback() || v6.is_unspecified(), v6.is_unicast_link_local(), v6.is_unique_local()),
    };
    match (machine, link, site) {
        (true, _, _) => Scope::Machine,
        (_, true, _) => Scope::Link,
        (_, _, true) => Scope::Site,
        _ => Scope::World,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Own addresses; the name's, each with what came back; parts of the problems; how many unknown.
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static [&'static str], usize);

    const CASES: &[Case] = &[
        (&["192.0.2.1"], &[("192.0.2.1", "ours")], &[], 0),
        (&["192.0.2.1"], &[], &["has no address"], 0),
        // A translation of addresses that leads back in.
        (&["10.0.0.1"], &[("192.0.2.1", "ours")], &[], 0),
        (&["10.0.0.1"], &[("192.0.2.1", "nobody")], &[], 1),
        (&["100.64.0.1"], &[("192.0.2.1", "nobody")], &[], 1),
        // The box that translates may answer itself.
        (&["10.0.0.1"], &[("192.0.2.1", "200")], &[], 1),
        // Nothing is translated within one network.
        (&["127.0.0.1", "10.0.0.1"], &[("10.0.0.9", "nobody")], &["leads to 10.0.0.9"], 0),
        (&["127.0.0.1", "10.0.0.1"], &[("10.0.0.1", "404")], &["status 404"], 0),
        (&["192.0.2.1"], &[("192.0.2.9", "404")], &["leads to 192.0.2.9, which is not this server"], 0),
        (&["192.0.2.1"], &[("192.0.2.9", "nobody")], &["leads to 192.0.2.9, which is not this server"], 0),
        (&["192.0.2.1"], &[("192.0.2.1", "404")], &["the proof is not served: status 404"], 0),
        (&["192.0.2.1"], &[("192.0.2.1", "301")], &["status 301"], 0),
        (&["192.0.2.1"], &[("192.0.2.1", "nobody")], &["port 80 does not answer"], 0),
        // The forgotten AAAA record.
        (
            &["192.0.2.1", "2001:db8::1"],
            &[("192.0.2.1", "ours"), ("2001:db8::9", "nobody")],
            &["leads to 2001:db8::9, which is not this server"],
            0,
        ),
        (&["192.0.2.1", "fe80::1"], &[("192.0.2.1", "ours"), ("2001:db8::9", "nobody")], &[], 1),
        (&["192.0.2.1", "fd00::1"], &[("192.0.2.1", "ours"), ("2001:db8::9", "404")], &["2001:db8::9"], 0),
        (&["192.0.2.1"], &[("192.0.2.1", "ours"), ("192.0.2.9", "404")], &["192.0.2.9"], 0),
        (&["192.0.2.1"], &[("192.0.2.8", "404"), ("192.0.2.9", "404")], &["192.0.2.8", "192.0.2.9"], 0),
    ];

    #[test]
    fn addresses_are_judged() {
        for (own, found, expected, unknown) in CASES {
            let mut addresses = Addresses::default();
            for (address, _) in *found {
                match address.parse().unwrap() {
                    IpAddr::V4(v4) => addresses.v4.push(v4),
                    IpAddr::V6(v6) => addresses.v6.push(v6),
                }
            }
            let answer = |text: &str| match text {
                "ours" => Answer::Ours,
                "nobody" => Answer::Nobody("connection refused".to_owned()),
                status => Answer::Other(status.parse().unwrap()),
            };
            let answers = found.iter().map(|(address, text)| (address.parse().unwrap(), answer(text))).collect();
            let facts = Facts { addresses: Some(Ok(addresses)), answers, caa: Ok(None), zone: None };
            let own = own.iter().map(|address| address.parse().unwrap()).collect();
            let name = "blog.example.org".parse().unwrap();
            let said = judge(&name, &facts, &own, &[], &Challenge::Http01);
            let whats: Vec<_> = said.problems.iter().map(|problem| problem.what.as_str()).collect();
            assert_eq!((whats.len(), said.unknown.len()), (expected.len(), *unknown), "{found:?}: {said:?}");
            for (what, part) in whats.iter().zip(*expected) {
                assert!(what.contains(part) && what.contains("`blog.example.org`"), "{what}");
            }
            assert!(said.problems.iter().all(|problem| !problem.hint.is_empty()));
        }
    }

    #[test]
    fn what_could_not_be_looked_up_is_no_problem() {
        let failed = || "cannot ask".to_owned();
        let facts = Facts {
            addresses: Some(Err(failed())),
            answers: Vec::new(),
            caa: Err(failed()),
            zone: Some(Err(failed())),
        };
        let name = "blog.example.org".parse().unwrap();
        let said = judge(&name, &facts, &BTreeSet::new(), &["ca.example".to_owned()], &Challenge::Http01);
        assert_eq!((said.problems.len(), said.unknown.len()), (0, 3));
    }

    #[test]
    fn a_proof_by_record_needs_no_address() {
        let facts = Facts { addresses: None, answers: Vec::new(), caa: Ok(None), zone: Some(Ok(())) };
        let challenge = Challenge::Dns01 { provider: "dns".parse().unwrap() };
        let name = "*.example.org".parse().unwrap();
        assert_eq!(judge(&name, &facts, &BTreeSet::new(), &[], &challenge), Judgement::default());
    }
}
