//! Whether CAA records let an authority issue (RFC 8659, RFC 8657). Pure.

use crate::host::dns::lookup::{Caa, CaaSet};
use crate::model::certificate::{CertifiedName, Challenge};

/// Why the records forbid it; `None`: they do not, or only the authority can tell (it knows the account that
/// `accounturi` means).
pub fn forbids(set: &CaaSet, name: &CertifiedName, identities: &[String], challenge: &Challenge) -> Option<String> {
    let known = ["issue", "issuewild", "iodef", "contactemail", "contactphone", "issuemail", "issuevmc"];
    if let Some(odd) = set.records.iter().find(|record| record.critical && !known.contains(&record.tag.as_str())) {
        return Some(format!(
            "the CAA records at `{}` hold a critical `{}`, which nobody may pass over",
            set.at, odd.tag
        ));
    }
    let tagged = |tag: &str| set.records.iter().filter(|record| record.tag == tag).collect::<Vec<_>>();
    let wild = if name.is_wildcard() { tagged("issuewild") } else { Vec::new() };
    let (tag, relevant) = if wild.is_empty() { ("issue", tagged("issue")) } else { ("issuewild", wild) };
    // An authority that does not say who it is cannot be found in records.
    if relevant.is_empty() || identities.is_empty() {
        return None;
    }
    let ours: Vec<_> =
        relevant.iter().map(|record| Issuer::of(record)).filter(|one| one.is_one_of(identities)).collect();
    if ours.is_empty() {
        let allowed: Vec<_> = relevant.iter().map(|record| Issuer::of(record).domain).collect();
        let allowed = allowed.iter().filter(|domain| !domain.is_empty()).map(String::as_str).collect::<Vec<_>>();
        let allowed = if allowed.is_empty() { "nobody".to_owned() } else { allowed.join(", ") };
        return Some(format!("the CAA records (`{tag}`) at `{}` allow {allowed}, not {}", set.at, identities[0]));
    }
    let method = match challenge {
        Challenge::Http01 => "http-01",
        Challenge::Dns01 { .. } => "dns-01",
    };
    if ours.iter().any(|one| one.allows(method)) {
        return None;
    }
    Some(format!(
        "the CAA records (`{tag}`) at `{}` allow {} only by other challenges than {method}",
        set.at, identities[0]
    ))
}

/// The value of an `issue` record: a domain and parameters (RFC 8659, 4.2).
struct Issuer {
    domain: String,
    /// `validationmethods` (RFC 8657, 4).
    methods: Option<Vec<String>>,
    /// It cannot be read, and so allows nobody.
    broken: bool,
}

impl Issuer {
    fn of(record: &Caa) -> Self {
        let mut parts = record.value.split(';').map(str::trim);
        let domain = parts.next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
        let (mut methods, mut broken) = (None, false);
        for part in parts.filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((name, value)) if name.trim().eq_ignore_ascii_case("validationmethods") => {
                    methods = Some(value.split(',').map(|method| method.trim().to_ascii_lowercase()).collect());
                }
                Some(_) => {}
                None => broken = true,
            }
        }
        Self { domain, methods, broken }
    }

    fn is_one_of(&self, identities: &[String]) -> bool {
        !self.broken && identities.iter().any(|identity| identity.eq_ignore_ascii_case(&self.domain))
    }

    fn allows(&self, method: &str) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.iter().any(|known| known == method))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LE: &str = "letsencrypt.org";

    /// Records as `tag value`, `!` before a critical one; the name; the challenge; a part of the refusal, or nothing.
    const CASES: &[(&[&str], &str, &str, Option<&str>)] = &[
        (&[], "a.example.org", "http-01", None),
        (&["issue letsencrypt.org"], "a.example.org", "http-01", None),
        (&["issue LetsEncrypt.org."], "a.example.org", "http-01", None),
        (&["issue other.example"], "a.example.org", "http-01", Some("allow other.example, not letsencrypt.org")),
        (&["issue other.example", "issue letsencrypt.org"], "a.example.org", "http-01", None),
        (&["issue ;"], "a.example.org", "http-01", Some("allow nobody")),
        (&["issue "], "a.example.org", "http-01", Some("allow nobody")),
        (&["iodef mailto:a@example.org"], "a.example.org", "http-01", None),
        (&["issuewild ;"], "a.example.org", "http-01", None),
        (&["issuewild ;"], "*.example.org", "dns-01", Some("(`issuewild`)")),
        (&["issue letsencrypt.org", "issuewild ;"], "*.example.org", "dns-01", Some("allow nobody")),
        (&["issue ;", "issuewild letsencrypt.org"], "*.example.org", "dns-01", None),
        (&["issue ;", "issuewild letsencrypt.org"], "a.example.org", "dns-01", Some("(`issue`)")),
        (&["issue letsencrypt.org"], "*.example.org", "dns-01", None),
        (&["issue letsencrypt.org; validationmethods=dns-01"], "a.example.org", "http-01", Some("other challenges")),
        (&["issue letsencrypt.org; validationmethods=dns-01,http-01"], "a.example.org", "http-01", None),
        (
            &["issue letsencrypt.org; validationmethods=dns-01", "issue letsencrypt.org; validationmethods=http-01"],
            "a.example.org",
            "http-01",
            None,
        ),
        (&["issue letsencrypt.org; accounturi=https://a/1"], "a.example.org", "http-01", None),
        (&["issue letsencrypt.org; nonsense"], "a.example.org", "http-01", Some("not letsencrypt.org")),
        (&["!tbs Unknown"], "a.example.org", "http-01", Some("critical `tbs`")),
        (&["tbs Unknown"], "a.example.org", "http-01", None),
        (&["!issue letsencrypt.org"], "a.example.org", "http-01", None),
    ];

    #[test]
    fn records_allow_and_forbid() {
        for (records, name, challenge, expected) in CASES {
            let record = |text: &&str| {
                let (tag, value) = text.trim_start_matches('!').split_once(' ').unwrap();
                Caa { critical: text.starts_with('!'), tag: tag.to_owned(), value: value.to_owned() }
            };
            let set = CaaSet { at: "example.org".to_owned(), records: records.iter().map(record).collect() };
            let challenge = match *challenge {
                "http-01" => Challenge::Http01,
                _ => Challenge::Dns01 { provider: "dns".parse().unwrap() },
            };
            let said = forbids(&set, &name.parse().unwrap(), &[LE.to_owned()], &challenge);
            match expected {
                None => assert_eq!(said, None, "{records:?} {name}"),
                Some(part) => {
                    let said = said.unwrap_or_else(|| panic!("{records:?} {name}"));
                    assert!(said.contains(part), "{said}");
                }
            }
        }
    }

    #[test]
    fn an_authority_without_a_name_is_not_judged() {
        let records = vec![Caa { critical: false, tag: "issue".to_owned(), value: ";".to_owned() }];
        let set = CaaSet { at: "example.org".to_owned(), records };
        assert_eq!(forbids(&set, &"example.org".parse().unwrap(), &[], &Challenge::Http01), None);
    }
}
