//! The rules for names and link targets. Pure.

use super::refusal::Reason;

/// PATH_MAX without its final zero byte.
pub const NAME_BYTES: usize = 4095;
/// NAME_MAX of every Linux file system.
pub const COMPONENT_BYTES: usize = 255;
/// Deeper than any real application; keeps walks and open directories bounded.
pub const DEPTH: usize = 64;

/// A name that passed: its components, none of them empty, `.` or `..`. No component at all is the
/// root of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryName<'a> {
    pub components: Vec<&'a str>,
    /// It was written with a final `/`.
    pub slash: bool,
}

/// Checks the name of an entry. A leading `./` and one final `/` are common in real archives and are
/// read as every program reads them; everything else that could be read in two ways is refused.
pub fn check(raw: &[u8]) -> Result<EntryName<'_>, Reason> {
    let text = text(raw)?;
    if text.starts_with('/') {
        return Err(Reason::NameAbsolute);
    }
    if text.contains('\\') {
        return Err(Reason::NameBackslash);
    }
    let (body, slash) = match text.strip_suffix('/') {
        Some(body) => (body, true),
        None => (text, false),
    };
    let body = match body.strip_prefix("./") {
        Some(rest) => rest,
        None if body == "." => return Ok(EntryName { components: Vec::new(), slash: true }),
        None => body,
    };
    let components: Vec<&str> = body.split('/').collect();
    if components.len() > DEPTH {
        return Err(Reason::NameTooDeep(DEPTH));
    }
    components.iter().try_for_each(|component| match *component {
        "" | "." => Err(Reason::NameComponent),
        ".." => Err(Reason::NameParent),
        long if long.len() > COMPONENT_BYTES => Err(Reason::NameTooLong(COMPONENT_BYTES)),
        _ => Ok(()),
    })?;
    Ok(EntryName { components, slash })
}

/// Checks the target of the symbolic link that will be at `link`.
///
/// Guarantee: with every link of a tree passing, no path through the tree leaves it. A target goes up
/// only at its beginning, from the link's own directory (a real one: nothing is unpacked below a
/// link) and not above the root; then it only goes down, through directories or through links that
/// passed themselves. A lexical check without this order falls to two chained links.
pub fn check_link(link: &str, target: &[u8]) -> Result<String, Reason> {
    let text = text(target).map_err(|_| Reason::LinkText)?;
    if text.starts_with('/') {
        return Err(Reason::LinkAbsolute);
    }
    let (mut depth, mut down) = (link.matches('/').count(), false);
    for component in text.split('/') {
        match component {
            "" | "." => {}
            ".." if down => return Err(Reason::LinkTwisted),
            ".." => depth = depth.checked_sub(1).ok_or(Reason::LinkOutside)?,
            long if long.len() > COMPONENT_BYTES => return Err(Reason::LinkText),
            _ => down = true,
        }
    }
    Ok(text.to_owned())
}

fn text(raw: &[u8]) -> Result<&str, Reason> {
    if raw.is_empty() {
        return Err(Reason::NameEmpty);
    }
    if raw.len() > NAME_BYTES {
        return Err(Reason::NameTooLong(NAME_BYTES));
    }
    let text = std::str::from_utf8(raw).map_err(|_| Reason::NameUtf8)?;
    if text.chars().any(char::is_control) {
        return Err(Reason::NameControl);
    }
    if text.chars().any(invisible) {
        return Err(Reason::NameInvisible);
    }
    Ok(text)
}

/// Characters that reorder or hide text (UAX #9, UTS #55), so that a name reads as another. The
/// joiners U+200C and U+200D stay allowed: Persian, Indic scripts and emoji need them.
fn invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(check(b"a/b").unwrap().components, ["a", "b"]);
        assert_eq!(check(b"./a/").unwrap(), EntryName { components: vec!["a"], slash: true });
        for root in [&b"."[..], b"./"] {
            assert_eq!(check(root).unwrap(), EntryName { components: vec![], slash: true });
        }
        let long = [b'a'; 256];
        let deep = "a/".repeat(65);
        let cases: [(&[u8], Reason); 18] = [
            (b"", Reason::NameEmpty),
            (b"/", Reason::NameAbsolute),
            (b"/a", Reason::NameAbsolute),
            (b"//a", Reason::NameAbsolute),
            (b"..", Reason::NameParent),
            (b"../a", Reason::NameParent),
            (b"a/../b", Reason::NameParent),
            (b"a/..", Reason::NameParent),
            (b".//a", Reason::NameComponent),
            (b"a//b", Reason::NameComponent),
            (b"a//", Reason::NameComponent),
            (b"a/./b", Reason::NameComponent),
            (b"././a", Reason::NameComponent),
            (b"a\\b", Reason::NameBackslash),
            (b"a\nb", Reason::NameControl),
            (b"a\xff", Reason::NameUtf8),
            (&long, Reason::NameTooLong(255)),
            (deep.as_bytes(), Reason::NameTooDeep(64)),
        ];
        for (name, reason) in cases {
            assert_eq!(check(name), Err(reason), "{name:?}");
        }
    }

    #[test]
    fn links() {
        for (link, target) in
            [("l", "a"), ("l", "a/b"), ("d/l", "../a"), ("d/e/l", "../../a/b/"), ("l", "./a"), ("l", ".")]
        {
            assert_eq!(check_link(link, target.as_bytes()).unwrap(), target);
        }
        let cases = [
            ("l", "", Reason::LinkText),
            ("l", "a\0b", Reason::LinkText),
            ("l", "/etc", Reason::LinkAbsolute),
            ("l", "..", Reason::LinkOutside),
            ("d/l", "../../a", Reason::LinkOutside),
            ("l", ".//../a", Reason::LinkOutside),
            ("l", "a/..", Reason::LinkTwisted),
            ("d/l", "../a/../b", Reason::LinkTwisted),
        ];
        for (link, target, reason) in cases {
            assert_eq!(check_link(link, target.as_bytes()), Err(reason), "{target:?}");
        }
    }
}
