//! The copies that cloud-init keeps of user data with a join token in it.
//!
//! A provider shows a server its user data for as long as it stands, and cloud-init may take it anew at any boot. So, once
//! a token was found, a script of ours stands among those that cloud-init runs at the end of each boot, and comes here.
//!
//! Rejected: to remove the copies. Without its `obj.pkl` cloud-init may take the server for a new one, and give it other
//! SSH host keys. Of a token, dots are made, as many as it is long: whatever counts bytes (pickle, MIME) still reads it.

use std::io;
use std::ops::Range;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::durable::{self, DurableError};
use crate::wire::token;

/// Where cloud-init keeps what it was given, and what it writes of its work.
const COPIES: [&str; 4] =
    ["var/lib/cloud", "run/cloud-init", "var/log/cloud-init.log", "var/log/cloud-init-output.log"];
/// What is in there, cloud-init runs at the end of each boot.
const EACH_BOOT: &str = "var/lib/cloud/scripts/per-boot";
const SCRIPT: &str = "socle-forget-tokens";
const SCRIPT_TEXT: &str = "#!/bin/sh\n\
    # Written by `socle agent join`: cloud-init may have taken its user data anew, and a join token is in it.\n\
    [ ! -x /usr/bin/socle ] || exec /usr/bin/socle agent forget-tokens\n";

/// What follows the prefix of a token is never as short as this.
const SHORTEST: usize = 40;
/// Of base64 in MIME (RFC 2045): what is not ASCII, cloud-init keeps in that form too.
const LINE: usize = 76;

#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    #[error("cannot look in `{0}` for copies of the join token")]
    Look(PathBuf, #[source] io::Error),
    #[error(transparent)]
    File(#[from] DurableError),
}

/// Makes the join tokens unreadable in all that cloud-init keeps; where there were any. May be interrupted anywhere and
/// called again, also while cloud-init is at work.
pub fn forget(root: &Path) -> Result<Vec<PathBuf>, ForgetError> {
    let mut copies = Vec::new();
    for place in COPIES {
        files(&root.join(place), &mut copies)?;
    }
    let mut found = Vec::new();
    for path in copies {
        // `None`: removed since it was listed.
        if let Some(clean) = durable::read(&path)?.and_then(without_tokens) {
            found.push((path, clean));
        }
    }
    if !found.is_empty() {
        // First: the copies are what says, after an interruption, that it is needed.
        stay(&root.join(EACH_BOOT))?;
    }
    for (path, clean) in &found {
        let like = path.metadata().map_err(|error| ForgetError::Look(path.clone(), error))?;
        let owner = |file: &std::fs::File| fchown(file, Some(like.uid()), Some(like.gid()));
        durable::write_new(path, clean, like.mode() & 0o7777, owner)?;
    }
    Ok(found.into_iter().map(|(path, _)| path).collect())
}

fn stay(directory: &Path) -> Result<(), ForgetError> {
    std::fs::create_dir_all(directory).map_err(|error| ForgetError::Look(directory.to_owned(), error))?;
    Ok(durable::write(&directory.join(SCRIPT), SCRIPT_TEXT.as_bytes(), 0o755)?)
}

/// The regular files at and below a path; none if it is not there. Links lead to what is found by itself.
fn files(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), ForgetError> {
    let failed = |error| ForgetError::Look(path.to_owned(), error);
    let kind = match path.symlink_metadata() {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if kind.is_file() {
        found.push(path.to_owned());
    }
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            files(&entry.map_err(failed)?.path(), found)?;
        }
    }
    Ok(())
}

/// The same, with dots for tokens; `None` if there are none.
fn without_tokens(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let plain = blank(&mut bytes);
    let encoded = blank_encoded(&mut bytes);
    (plain || encoded).then_some(bytes)
}

fn blank(bytes: &mut [u8]) -> bool {
    let prefix = token::PREFIX.as_bytes();
    let (mut at, mut found) = (0, false);
    while let Some(next) = bytes[at..].windows(prefix.len()).position(|window| window == prefix) {
        let secret = at + next + prefix.len();
        at = secret + leading(&bytes[secret..], |byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if at - secret >= SHORTEST {
            bytes[secret..at].fill(b'.');
            found = true;
        }
    }
    found
}

/// In base64 over several lines, of which something else may stand before the first.
fn blank_encoded(bytes: &mut [u8]) -> bool {
    let mut blocks: Vec<Vec<Range<usize>>> = Vec::new();
    let mut open = false;
    let mut start = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let here = start..start + line.len();
        start = here.end + 1;
        if open {
            let length = leading(line, |byte| is_base64(byte) || byte == b'=');
            open = length == LINE && line.len() == LINE;
            blocks.last_mut().expect("one is open").push(here.start..here.start + length);
        } else if line.len() >= LINE && line[line.len() - LINE..].iter().all(|byte| is_base64(*byte)) {
            open = true;
            let first = here.end - LINE..here.end;
            blocks.push(std::iter::once(first).collect());
        }
    }
    blocks.into_iter().filter(|block| blank_block(bytes, block)).count() > 0
}

fn blank_block(bytes: &mut [u8], block: &[Range<usize>]) -> bool {
    let text: Vec<u8> = block.iter().flat_map(|range| bytes[range.clone()].to_vec()).collect();
    let Ok(mut decoded) = BASE64_STANDARD.decode(text) else { return false };
    if !blank(&mut decoded) {
        return false;
    }
    let encoded = BASE64_STANDARD.encode(decoded);
    let mut rest = encoded.as_bytes();
    for range in block {
        let (line, after) = rest.split_at(range.len());
        bytes[range.clone()].copy_from_slice(line);
        rest = after;
    }
    true
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/".contains(&byte)
}

fn leading(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().take_while(|byte| is(**byte)).count()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::wire::JoinToken;

    fn token() -> String {
        let addresses = vec!["controller.example.org:7443".to_owned()];
        let random = |bytes: &mut [u8]| bytes.fill(0xa7);
        JoinToken::new("ks1".parse().unwrap(), addresses, [9; 32], jiff::Timestamp::UNIX_EPOCH, random).to_string()
    }

    fn has_a_token(bytes: &[u8]) -> bool {
        bytes.windows(token().len()).any(|window| window == token().as_bytes())
    }

    #[test]
    fn what_has_a_token_is_as_long_without_it() {
        let pickled = [&b"\x80\x04C\xff"[..], format!("content: |\n  {}\n", token()).as_bytes(), b"\0\x94."].concat();
        let clean = without_tokens(pickled.clone()).unwrap();
        assert_eq!(clean.len(), pickled.len());
        assert!(has_a_token(&pickled) && !has_a_token(&clean));
        assert!(clean.starts_with(&pickled[..20]) && clean.ends_with(b".\n\0\x94."), "all else stays");
        assert_eq!(without_tokens(clean), None, "and is not touched again");
        assert_eq!(without_tokens(b"socle1_ is how a token begins: socle1_abc".to_vec()), None);
    }

    #[test]
    fn a_token_is_found_in_what_mime_encoded() {
        // Wherever the token begins, its first byte may be any of the three that are encoded together.
        for before in ["é", "éa", "éab"] {
            let text = format!("#cloud-config\n# {before}\n{}\n{}", token(), "last: ".repeat(9));
            let encoded = BASE64_STANDARD.encode(&text);
            let lines: Vec<&[u8]> = encoded.as_bytes().chunks(LINE).collect();
            let message = [&b"Content-Transfer-Encoding: base64\n\nX"[..], &lines.join(&b'\n'), b"\n--==\n"].concat();
            let clean = without_tokens(message.clone()).unwrap();
            assert_eq!(clean.len(), message.len());
            let body = &clean[b"Content-Transfer-Encoding: base64\n\nX".len()..clean.len() - 6];
            let body: Vec<u8> = body.iter().copied().filter(|byte| *byte != b'\n').collect();
            let decoded = BASE64_STANDARD.decode(body).unwrap();
            let dots = format!("socle1_{}", ".".repeat(token().len() - 7));
            assert_eq!(String::from_utf8(decoded).unwrap(), text.replace(&token(), &dots));
        }
        let other = BASE64_STANDARD.encode([7; 500]);
        let other: Vec<&[u8]> = other.as_bytes().chunks(LINE).collect();
        assert_eq!(without_tokens(other.join(&b'\n')), None);
    }

    #[test]
    fn cloud_init_calls_again_once_there_was_a_token() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(forget(root.path()).unwrap(), Vec::<PathBuf>::new(), "without cloud-init");
        let instance = root.path().join("var/lib/cloud/instances/i-1");
        std::fs::create_dir_all(&instance).unwrap();
        std::os::unix::fs::symlink(&instance, root.path().join("var/lib/cloud/instance")).unwrap();
        std::fs::write(instance.join("boot-finished"), "1\n").unwrap();
        let script = root.path().join(EACH_BOOT).join(SCRIPT);
        assert_eq!(forget(root.path()).unwrap(), Vec::<PathBuf>::new());
        assert!(!script.exists(), "it came by another way");

        let copy = instance.join("user-data.txt");
        std::fs::write(&copy, format!("runcmd: {}\n", token())).unwrap();
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(forget(root.path()).unwrap(), std::slice::from_ref(&copy));
        let clean = std::fs::read(&copy).unwrap();
        assert!(clean.starts_with(b"runcmd: socle1_....") && !has_a_token(&clean));
        assert_eq!(copy.metadata().unwrap().mode() & 0o7777, 0o400);
        assert_eq!(script.metadata().unwrap().mode() & 0o7777, 0o755);
        assert_eq!(forget(root.path()).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(std::fs::read_to_string(instance.join("boot-finished")).unwrap(), "1\n");
    }
}
