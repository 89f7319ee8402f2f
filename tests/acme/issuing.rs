//! Certificates, right and wrong.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair, SerialNumber,
};

/// What is wrong with what it issues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Nothing,
    OtherKey,
    OtherName,
    NameMissing,
    Expired,
    NotYet,
    Reversed,
    ForeignIntermediate,
    Garbage,
    Empty,
    Html,
    Endless,
}

pub fn issuer(name: &str) -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

pub struct Issuing {
    issuer: Issuer<'static, KeyPair>,
    issuer_pem: String,
    foreign_pem: String,
}

impl Issuing {
    pub fn new() -> Self {
        let (issuer, issuer_pem) = issuer("an authority");
        Self { issuer, issuer_pem, foreign_pem: self::issuer("another authority").1 }
    }

    pub fn issue(
        &self,
        names: &[String],
        request: &CertificateSigningRequestParams,
        wrong: Wrong,
        serial: u64,
        now: Timestamp,
        life: SignedDuration,
    ) -> String {
        let mut names = names.to_vec();
        match wrong {
            Wrong::OtherName => names = vec!["elsewhere.example.net".to_owned()],
            Wrong::NameMissing if names.len() > 1 => drop(names.pop()),
            _ => {}
        }
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(serial + 0x1000));
        params.use_authority_key_identifier_extension = true;
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        let second = |at: Timestamp| epoch + Duration::from_secs(at.as_second().unsigned_abs());
        let (begin, end) = match wrong {
            Wrong::Expired => (now - life, now - SignedDuration::from_hours(1)),
            Wrong::NotYet => (now + SignedDuration::from_hours(100), now + life),
            _ => (now - SignedDuration::from_hours(1), now - SignedDuration::from_hours(1) + life),
        };
        (params.not_before, params.not_after) = (second(begin), second(end));
        let leaf = match wrong {
            Wrong::OtherKey => params.signed_by(&KeyPair::generate().unwrap(), &self.issuer),
            _ => params.signed_by(&request.public_key, &self.issuer),
        };
        let leaf = leaf.unwrap().pem();
        match wrong {
            Wrong::Reversed => format!("{}{leaf}", self.issuer_pem),
            Wrong::ForeignIntermediate => format!("{leaf}{}", self.foreign_pem),
            Wrong::Garbage => leaf.replace("MII", "!!!"),
            Wrong::Empty => String::new(),
            Wrong::Html => "<html>out of order</html>".to_owned(),
            Wrong::Endless => leaf.repeat(20),
            _ => format!("{leaf}{}", self.issuer_pem),
        }
    }
}
