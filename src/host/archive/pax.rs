//! Extended headers (POSIX.1-2001, pax): lines of `<length> <key>=<value>\n`.

use super::refusal::{Reason, shown};

/// What of an entry's extended header matters.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Records {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
}

/// Keys that say nothing about names and content, so that leaving them out changes nothing.
const HARMLESS: [&str; 17] = [
    "comment",
    "mtime",
    "atime",
    "ctime",
    "uid",
    "gid",
    "uname",
    "gname",
    "LIBARCHIVE.creationtime",
    "RHT.security.selinux",
    "SCHILY.dev",
    "SCHILY.ino",
    "SCHILY.nlink",
    "SCHILY.fflags",
    "SCHILY.acl.access",
    "SCHILY.acl.default",
    "SCHILY.filetype",
];
/// Extended attributes are never set.
const HARMLESS_PREFIXES: [&str; 2] = ["LIBARCHIVE.xattr.", "SCHILY.xattr."];

pub fn parse(data: &[u8]) -> Result<Records, Reason> {
    let mut records = Records::default();
    for (key, value) in lines(data)? {
        match key {
            "path" => records.path = Some(text(value)?),
            "linkpath" => records.link = Some(text(value)?),
            "size" => records.size = Some(decimal(value)?),
            key if key.starts_with("GNU.sparse.") || key.starts_with("SCHILY.realsize") => return Err(Reason::Sparse),
            key => harmless(key).map_err(Reason::PaxKey)?,
        }
    }
    Ok(records)
}

/// A header for all entries may only hold what changes none.
pub fn check_global(data: &[u8]) -> Result<(), Reason> {
    lines(data)?.into_iter().try_for_each(|(key, _)| harmless(key).map_err(Reason::PaxGlobal))
}

fn harmless(key: &str) -> Result<(), String> {
    if HARMLESS.contains(&key) || HARMLESS_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        Ok(())
    } else {
        Err(shown(key.as_bytes()))
    }
}

/// At most 64 KiB of them, the caller sees to that.
fn lines(mut data: &[u8]) -> Result<Vec<(&str, &[u8])>, Reason> {
    let mut found: Vec<(&str, &[u8])> = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ').ok_or(Reason::Pax)?;
        let length = usize::try_from(decimal(&data[..space])?).map_err(|_| Reason::Pax)?;
        let (line, rest) = data.split_at_checked(length).ok_or(Reason::Pax)?;
        let record = line.strip_suffix(b"\n").and_then(|line| line.get(space + 1..)).ok_or(Reason::Pax)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(Reason::Pax)?;
        let key = std::str::from_utf8(&record[..equals]).map_err(|_| Reason::Pax)?;
        if key.is_empty() || key.chars().any(char::is_control) {
            return Err(Reason::Pax);
        }
        if found.iter().any(|(other, _)| *other == key) {
            return Err(Reason::PaxTwice(shown(key.as_bytes())));
        }
        found.push((key, &record[equals + 1..]));
        data = rest;
    }
    Ok(found)
}

/// An empty value would mean "not this one, the header's".
fn text(value: &[u8]) -> Result<Vec<u8>, Reason> {
    if value.is_empty() || value.contains(&0) { Err(Reason::Pax) } else { Ok(value.to_vec()) }
}

fn decimal(text: &[u8]) -> Result<u64, Reason> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit) && (text[0] != b'0' || text.len() == 1);
    let text = std::str::from_utf8(text).map_err(|_| Reason::Pax)?;
    if plain { text.parse().map_err(|_| Reason::Pax) } else { Err(Reason::Pax) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let records = parse(b"12 path=a/b\n10 size=7\n20 mtime=1700000.25\n").unwrap();
        assert_eq!(records, Records { path: Some(b"a/b".to_vec()), link: None, size: Some(7) });
        assert_eq!(parse(b"").unwrap(), Records::default());
        let cases: [(&[u8], Reason); 12] = [
            (b"12 path=a/b", Reason::Pax),
            (b"99 path=a/b\n", Reason::Pax),
            (b"11 path=a/b\n", Reason::Pax),
            (b"012 path=ab\n", Reason::Pax),
            (b"-1 path=a/b\n", Reason::Pax),
            (b"8 path=\n", Reason::Pax),
            (b"11 path=a\0\n", Reason::Pax),
            (b"5 =a\n", Reason::Pax),
            (b"0 a=b\n", Reason::Pax),
            (b"11 size=-7\n", Reason::Pax),
            (b"8 path=a\n", Reason::Pax),
            (b"9 path=a\n9 path=b\n", Reason::PaxTwice("path".into())),
        ];
        for (data, reason) in cases {
            assert_eq!(parse(data), Err(reason), "{}", String::from_utf8_lossy(data));
        }
        assert_eq!(parse(b"22 GNU.sparse.major=1\n"), Err(Reason::Sparse));
        assert_eq!(parse(b"9 what=ye\n".get(..9).unwrap()), Err(Reason::Pax));
        assert_eq!(check_global(b"14 comment=ab\n"), Ok(()));
        assert_eq!(check_global(b"9 path=a\n"), Err(Reason::PaxGlobal("path".into())));
    }
}
