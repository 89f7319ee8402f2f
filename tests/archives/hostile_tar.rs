//! Hostile tar archives: name, bytes, why each is refused.

use socle::host::archive::Reason;

use super::Case;
use super::build::*;

pub fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(links());
    cases.extend(types());
    cases.extend(headers());
    cases.extend(extended());
    cases.extend(ends());
    cases.extend(bombs());
    cases
}

/// The same bad name as a file, as a directory and by both ways to give a long name.
fn names() -> Vec<Case> {
    let long_component = vec![b'a'; 256];
    let long_path = "ab/".repeat(1400);
    let deep = "d/".repeat(70) + "f";
    let bad: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("parent", b"../evil".to_vec(), Reason::NameParent),
        ("parents", b"../../../../../../etc/cron.d/evil".to_vec(), Reason::NameParent),
        ("parent in the middle", b"app/../../evil".to_vec(), Reason::NameParent),
        ("parent at the end", b"app/..".to_vec(), Reason::NameParent),
        ("parent alone", b"..".to_vec(), Reason::NameParent),
        ("parent behind dot", b"./../evil".to_vec(), Reason::NameParent),
        ("absolute", b"/etc/cron.d/evil".to_vec(), Reason::NameAbsolute),
        ("absolute twice", b"//etc/cron.d/evil".to_vec(), Reason::NameAbsolute),
        ("dot and absolute", b".//etc/cron.d/evil".to_vec(), Reason::NameComponent),
        ("dots", b"././evil".to_vec(), Reason::NameComponent),
        ("empty component", b"app//evil".to_vec(), Reason::NameComponent),
        ("dot in the middle", b"app/./evil".to_vec(), Reason::NameComponent),
        ("two slashes behind", b"app/x//".to_vec(), Reason::NameComponent),
        ("backslashes", b"..\\..\\evil".to_vec(), Reason::NameBackslash),
        ("drive", b"C:\\evil".to_vec(), Reason::NameBackslash),
        ("line break", b"app/a\nb".to_vec(), Reason::NameControl),
        ("escape sequence", b"app/\x1b[2Jx".to_vec(), Reason::NameControl),
        ("delete", b"app/\x7f".to_vec(), Reason::NameControl),
        ("C1 control", "app/\u{9b}x".into(), Reason::NameControl),
        ("not UTF-8", b"app/\xff\xfe".to_vec(), Reason::NameUtf8),
        ("overlong dot", b"app/\xc0\xae\xc0\xae/evil".to_vec(), Reason::NameUtf8),
        ("surrogate", b"app/\xed\xa0\x80".to_vec(), Reason::NameUtf8),
        ("reversed text", "app/\u{202e}gpj.php".into(), Reason::NameInvisible),
        ("isolate", "app/\u{2066}x\u{2069}".into(), Reason::NameInvisible),
        ("zero width space", "app/index\u{200b}.php".into(), Reason::NameInvisible),
        ("byte order mark", "\u{feff}app/x".into(), Reason::NameInvisible),
        ("line separator", "app/\u{2028}x".into(), Reason::NameInvisible),
        ("long component", long_component, Reason::NameTooLong(255)),
        ("long path", long_path.into_bytes(), Reason::NameTooLong(4095)),
        ("deep", deep.into_bytes(), Reason::NameTooDeep(64)),
    ];
    let mut cases = Vec::new();
    for (what, name, reason) in bad {
        if name.len() <= 100 {
            cases.push(Case::new(
                format!("tar: file named {what}"),
                Tar::new().file(&name, b"x").end(),
                reason.clone(),
            ));
        }
        let short = Header::new(b"short", b'0', 1);
        let with_nul = [&name[..], b"\0"].concat();
        let gnu = Tar::new().long(b'L', &with_nul).entry(short.clone().gnu(), b"x").end();
        cases.push(Case::new(format!("tar: GNU long name {what}"), gnu, reason.clone()));
        let pax = Tar::new().pax(&[("path", &name)]).entry(short, b"x").end();
        cases.push(Case::new(format!("tar: pax path {what}"), pax, reason));
    }
    let prefix = Header::new(b"evil", b'0', 1).with(345, b"..");
    let absolute = Header::new(b"cron.d/evil", b'0', 1).with(345, b"/etc");
    cases.extend([
        Case::new("tar: prefix goes up", Tar::new().entry(prefix, b"x").end(), Reason::NameParent),
        Case::new("tar: prefix is absolute", Tar::new().entry(absolute, b"x").end(), Reason::NameAbsolute),
        Case::new("tar: no name", Tar::new().file("", b"x").end(), Reason::NameEmpty),
        Case::new(
            "tar: only a prefix",
            Tar::new().entry(Header::new(b"", b'0', 1).with(345, b"app"), b"x").end(),
            Reason::NameOfDirectory,
        ),
        Case::new("tar: slash alone", Tar::new().dir("/").end(), Reason::NameAbsolute),
        Case::new("tar: directory above", Tar::new().dir("../").end(), Reason::NameParent),
        Case::new("tar: file with a slash", Tar::new().file("app/x/", b"x").end(), Reason::NameOfDirectory),
        Case::new("tar: root as a file", Tar::new().file(".", b"x").end(), Reason::NameOfDirectory),
        Case::new("tar: root as a link", Tar::new().sym(".", "/etc").end(), Reason::NameOfDirectory),
        Case::stripped(
            "tar: parent hidden by stripping",
            Tar::new().file("../app/x", b"x").end(),
            1,
            Reason::NameParent,
        ),
        Case::stripped(
            "tar: parent after stripping",
            Tar::new().file("app/../../x", b"x").end(),
            1,
            Reason::NameParent,
        ),
        Case::stripped(
            "tar: device stripped away",
            Tar::new().entry(Header::new(b"sda", b'4', 0), b"").end(),
            1,
            Reason::Device,
        ),
    ]);
    cases
}

fn links() -> Vec<Case> {
    let t = Tar::new;
    let host = super::CANARY;
    let deep = "../".repeat(20) + "etc/passwd";
    vec![
        Case::new("tar: link to the host", t().sym("l", "/etc/passwd").end(), Reason::LinkAbsolute),
        Case::new("tar: link to the canary", t().sym("l", host).end(), Reason::LinkAbsolute),
        Case::new("tar: link to the root", t().sym("l", "/").end(), Reason::LinkAbsolute),
        Case::new("tar: link to procfs", t().sym("l", "/proc/self/root").end(), Reason::LinkAbsolute),
        Case::new("tar: link up", t().sym("l", "..").end(), Reason::LinkOutside),
        Case::new("tar: link up from below", t().sym("app/l", "../../x").end(), Reason::LinkOutside),
        Case::new("tar: link far up", t().sym("app/l", deep).end(), Reason::LinkOutside),
        Case::new("tar: link down and up", t().sym("app/l", "x/../../..").end(), Reason::LinkTwisted),
        Case::new(
            "tar: link through another and up",
            t().dir("d/e").sym("d/e/up", "../..").sym("l", "d/e/up/..").end(),
            Reason::LinkTwisted,
        ),
        Case::new("tar: chained links", t().dir("d").sym("a", "d").sym("b", "a/../../x").end(), Reason::LinkTwisted),
        Case::new("tar: empty target", t().sym("l", "").end(), Reason::LinkText),
        Case::new("tar: target with an escape", t().sym("l", "a\x1b[2J").end(), Reason::LinkText),
        Case::new("tar: target not UTF-8", t().sym("l", b"a\xff").end(), Reason::LinkText),
        Case::new(
            "tar: target component too long",
            t().long(b'K', &[&[b'a'; 300][..], b"\0"].concat()).sym("l", "x").end(),
            Reason::LinkText,
        ),
        Case::new(
            "tar: target too long",
            t().pax(&[("linkpath", &vec![b'a'; 5000])]).sym("l", "x").end(),
            Reason::LinkText,
        ),
        Case::new(
            "tar: pax target outside",
            t().pax(&[("linkpath", b"../../etc")]).sym("l", "x").end(),
            Reason::LinkOutside,
        ),
        Case::new(
            "tar: GNU target outside",
            t().long(b'K', b"/etc/shadow\0").entry(Header::new(b"l", b'2', 0).gnu(), b"").end(),
            Reason::LinkAbsolute,
        ),
        Case::new("tar: file through a link", t().sym("l", "app").file("l/x", b"x").end(), Reason::BelowLink),
        Case::new(
            "tar: file through a link to the host",
            t().sym("l", "/etc").file("l/x", b"x").end(),
            Reason::LinkAbsolute,
        ),
        Case::new("tar: file through two links", t().sym("a", "app").sym("a/b", "..").end(), Reason::BelowLink),
        Case::new("tar: directory through a link", t().sym("l", "app").dir("l/d").end(), Reason::BelowLink),
        Case::new("tar: directory over a link", t().sym("l", "app").dir("l").end(), Reason::Clash),
        Case::new("tar: directory over a link with a slash", t().sym("l", "app").dir("l/").end(), Reason::Clash),
        Case::new("tar: file over a link", t().sym("l", "app/index.php").file("l", b"x").end(), Reason::Clash),
        Case::new("tar: link over a file", t().sym("app/index.php", "x").end(), Reason::Clash),
        Case::new("tar: link over a directory", t().sym("app", "x").end(), Reason::Clash),
        Case::new("tar: link over a link", t().sym("l", "a").sym("l", "b").end(), Reason::Clash),
        Case::new(
            "tar: link in place of a directory, then below",
            t().dir("d").sym("d", "app").file("d/x", b"x").end(),
            Reason::Clash,
        ),
        Case::new(
            "tar: link by another case",
            t().dir("D").sym("d", "app").file("D/x", b"x").end(),
            Reason::CaseOfLink,
        ),
        Case::new("tar: two links by case", t().sym("l", "app").sym("L", "app").end(), Reason::CaseOfLink),
        Case::new(
            "tar: file and link by case",
            t().file("App/config", b"").sym("App/CONFIG", "x").end(),
            Reason::CaseOfLink,
        ),
        Case::new("tar: hard link to the host", t().hard("l", "/etc/passwd").end(), Reason::NameAbsolute),
        Case::new("tar: hard link up", t().hard("l", "../secret").end(), Reason::NameParent),
        Case::new("tar: hard link to nothing", t().hard("l", "nothing").end(), Reason::HardLink),
        Case::new("tar: hard link to a later file", t().hard("l", "later").file("later", b"x").end(), Reason::HardLink),
        Case::new("tar: hard link to itself", t().hard("l", "l").end(), Reason::HardLink),
        Case::new("tar: hard link to a directory", t().hard("l", "app").end(), Reason::HardLink),
        Case::new("tar: hard link to a link", t().sym("s", "app/index.php").hard("l", "s").end(), Reason::HardLink),
        Case::new(
            "tar: hard link through a link",
            t().sym("s", "app").hard("l", "s/index.php").end(),
            Reason::HardLink,
        ),
        Case::new("tar: hard link through a file", t().hard("l", "app/index.php/x").end(), Reason::HardLink),
        Case::new("tar: hard link over a file", t().file("x", b"").hard("x", "app/index.php").end(), Reason::Twice),
        Case::new(
            "tar: hard link below a link",
            t().sym("s", "app").hard("s/x", "app/index.php").end(),
            Reason::BelowLink,
        ),
        Case::new("tar: hard link without target", t().hard("l", "").end(), Reason::NameEmpty),
        Case::new("tar: hard link to the root", t().hard("l", "./").end(), Reason::NameOfDirectory),
        Case::stripped("tar: link out after stripping", t().sym("app/l", "../x").end(), 1, Reason::LinkOutside),
        Case::stripped(
            "tar: hard link to a stripped name",
            t().file("top", b"x").hard("app/l", "top").end(),
            1,
            Reason::HardLink,
        ),
    ]
}

fn types() -> Vec<Case> {
    let t = Tar::new;
    let node = |kind| Header::new(b"app/node", kind, 0).with(329, b"0000001\0").with(337, b"0000003\0");
    let mut cases = vec![
        Case::new("tar: character device", t().entry(node(b'3'), b"").end(), Reason::Device),
        Case::new("tar: block device", t().entry(node(b'4'), b"").end(), Reason::Device),
        Case::new("tar: named pipe", t().entry(node(b'6'), b"").end(), Reason::Fifo),
        Case::new("tar: GNU sparse file", t().entry(Header::new(b"s", b'S', 0).gnu(), b"").end(), Reason::Sparse),
        Case::new(
            "tar: GNU sparse file of a petabyte",
            t().entry(Header::new(b"s", b'S', 0).gnu().with(483, b"77777777777\0"), b"").end(),
            Reason::Sparse,
        ),
        Case::new(
            "tar: continued from another volume",
            t().entry(Header::new(b"m", b'M', 0).gnu(), b"").end(),
            Reason::Volume,
        ),
        Case::new("tar: volume label", t().entry(Header::new(b"label", b'V', 0).gnu(), b"").end(), Reason::Volume),
        Case::new(
            "tar: set-user-ID file",
            t().entry(Header::new(b"app/su", b'0', 1).mode(0o4755), b"x").end(),
            Reason::SetId,
        ),
        Case::new(
            "tar: set-group-ID file",
            t().entry(Header::new(b"app/su", b'0', 1).mode(0o2755), b"x").end(),
            Reason::SetId,
        ),
        Case::new(
            "tar: set-user-ID directory",
            t().entry(Header::new(b"app/d", b'5', 0).mode(0o4755), b"").end(),
            Reason::SetId,
        ),
        Case::new(
            "tar: set-user-ID hard link",
            t().entry(Header::new(b"l", b'1', 0).link(b"app/index.php").mode(0o4755), b"").end(),
            Reason::SetId,
        ),
        Case::new(
            "tar: set-user-ID, typeflag zero",
            t().entry(Header::new(b"app/su", 0, 1).mode(0o6755), b"x").end(),
            Reason::SetId,
        ),
        Case::new("tar: file twice", t().file("app/index.php", b"other").end(), Reason::Twice),
        Case::new("tar: file twice, written with a dot", t().file("./app/index.php", b"other").end(), Reason::Twice),
        Case::new("tar: directory over a file", t().dir("app/index.php").end(), Reason::Clash),
        Case::new("tar: file over a directory", t().file("app", b"x").end(), Reason::Clash),
        Case::new("tar: file below a file", t().file("app/index.php/x", b"x").end(), Reason::Clash),
        Case::new("tar: directory below a file", t().dir("app/index.php/x/y").end(), Reason::BelowFile),
        Case::new("tar: directory with content", t().entry(Header::new(b"d", b'5', 4), b"data").end(), Reason::Content),
        Case::new(
            "tar: symbolic link with content",
            t().entry(Header::new(b"l", b'2', 4).link(b"app"), b"data").end(),
            Reason::Content,
        ),
        Case::new(
            "tar: hard link with content",
            t().entry(Header::new(b"l", b'1', 4).link(b"app/index.php"), b"data").end(),
            Reason::Content,
        ),
    ];
    for kind in *b"79ADINZaz \xff" {
        let bytes = t().entry(Header::new(b"odd", kind, 0), b"").end();
        cases.push(Case::new(format!("tar: type {:?}", char::from(kind)), bytes, Reason::Type(char::from(kind))));
    }
    cases
}

fn headers() -> Vec<Case> {
    let t = Tar::new;
    let size = |field: &[u8]| t().entry(Header::new(b"x", b'0', 0).with(124, field), b"").end();
    let mut wrong_sum = Header::new(b"x", b'0', 0).sealed();
    wrong_sum[0] = b'y';
    let mut no_sum = Header::new(b"x", b'0', 0).sealed();
    no_sum[148..156].fill(0);
    let number = Reason::Number("size");
    vec![
        Case::new("tar: wrong checksum", t().raw(&wrong_sum).end(), Reason::Checksum),
        Case::new("tar: no checksum", t().raw(&no_sum).end(), Reason::Checksum),
        Case::new("tar: noise for a header", t().raw(&[0x41; 512]).end(), Reason::Checksum),
        Case::new(
            "tar: version 7 header",
            t().entry(Header::new(b"x", b'0', 0).with(257, &[0; 8]), b"").end(),
            Reason::Magic,
        ),
        Case::new(
            "tar: odd magic",
            t().entry(Header::new(b"x", b'0', 0).with(257, b"ustar\x0099"), b"").end(),
            Reason::Magic,
        ),
        Case::new(
            "tar: GNU with a prefix",
            t().entry(Header::new(b"x", b'0', 0).gnu().with(345, b"../.."), b"").end(),
            Reason::GnuPrefix,
        ),
        Case::new(
            "tar: GNU with a late prefix",
            t().entry(Header::new(b"x", b'0', 0).gnu().with(400, b"evil"), b"").end(),
            Reason::GnuPrefix,
        ),
        Case::new("tar: negative size", size(b"-0000000001\0"), number.clone()),
        Case::new("tar: negative binary size", size(&[0xff; 12]), number.clone()),
        Case::new("tar: huge binary size", size(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), number.clone()),
        Case::new("tar: wider binary size", size(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), number.clone()),
        Case::new("tar: size with a sign", size(b"+0000000001\0"), number.clone()),
        Case::new("tar: hexadecimal size", size(b"0x000000001\0"), number.clone()),
        Case::new("tar: size with a gap", size(b"0000 000001\0"), number.clone()),
        Case::new("tar: size with something behind", size(b"0000001\0evil"), number.clone()),
        Case::new("tar: no size", size(&[0; 12]), number),
        Case::new(
            "tar: odd owner",
            t().entry(Header::new(b"x", b'0', 0).with(108, b"root\0\0\0\0"), b"").end(),
            Reason::Number("owner"),
        ),
        Case::new(
            "tar: odd group",
            t().entry(Header::new(b"x", b'0', 0).with(116, b"0000 99\0"), b"").end(),
            Reason::Number("group"),
        ),
        Case::new(
            "tar: odd time",
            t().entry(Header::new(b"x", b'0', 0).with(136, b"145247704\xf20"), b"").end(),
            Reason::Number("time"),
        ),
        Case::new(
            "tar: odd mode",
            t().entry(Header::new(b"x", b'0', 0).with(100, b"0009999\0"), b"").end(),
            Reason::Number("mode"),
        ),
    ]
}

fn extended() -> Vec<Case> {
    let t = Tar::new;
    let raw = |kind, data: &[u8]| t().entry(Header::new(b"x", kind, data.len() as u64), data).file("y", b"").end();
    let key = |key: &str| Reason::PaxKey(key.to_owned());
    let global = |key: &str| Reason::PaxGlobal(key.to_owned());
    let inner = Tar::default().entry(Header::new(b"smuggled", b'0', 0).mode(0o4755), b"").0;
    vec![
        Case::new(
            "pax: larger size (smuggling)",
            t().pax(&[("size", b"512")]).entry(Header::new(b"x", b'0', 0), b"").raw(&inner).end(),
            Reason::PaxSize,
        ),
        Case::new(
            "pax: smaller size (smuggling)",
            t().pax(&[("size", b"0")]).entry(Header::new(b"x", b'0', inner.len() as u64), &inner).end(),
            Reason::PaxSize,
        ),
        Case::new("pax: size of a directory", t().pax(&[("size", b"512")]).dir("d").raw(&inner).end(), Reason::PaxSize),
        Case::new(
            "pax: huge size",
            t().pax(&[("size", b"18446744073709551615")]).file("x", b"").end(),
            Reason::PaxSize,
        ),
        Case::new("pax: negative size", t().pax(&[("size", b"-1")]).file("x", b"").end(), Reason::Pax),
        Case::new("pax: size is no number", t().pax(&[("size", b"0x10")]).file("x", b"").end(), Reason::Pax),
        Case::new(
            "pax: size over 64 bits",
            t().pax(&[("size", b"99999999999999999999")]).file("x", b"").end(),
            Reason::Pax,
        ),
        Case::new(
            "pax: path twice",
            t().pax(&[("path", b"a"), ("path", b"../b")]).file("x", b"").end(),
            Reason::PaxTwice("path".into()),
        ),
        Case::new(
            "pax: size twice",
            t().pax(&[("size", b"0"), ("size", b"9")]).file("x", b"").end(),
            Reason::PaxTwice("size".into()),
        ),
        Case::new("pax: empty path", t().pax(&[("path", b"")]).file("x", b"").end(), Reason::Pax),
        Case::new("pax: path with a zero byte", t().pax(&[("path", b"a\0../b")]).file("x", b"").end(), Reason::Pax),
        Case::new("pax: target with a zero byte", t().pax(&[("linkpath", b"a\0b")]).sym("l", "x").end(), Reason::Pax),
        Case::new(
            "pax: sparse",
            t().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")]).file("x", b"").end(),
            Reason::Sparse,
        ),
        Case::new("pax: sparse name", t().pax(&[("GNU.sparse.name", b"../x")]).file("x", b"").end(), Reason::Sparse),
        Case::new(
            "pax: sparse size",
            t().pax(&[("GNU.sparse.realsize", b"1125899906842624")]).file("x", b"").end(),
            Reason::Sparse,
        ),
        Case::new(
            "pax: star's real size",
            t().pax(&[("SCHILY.realsize", b"1125899906842624")]).file("x", b"").end(),
            Reason::Sparse,
        ),
        Case::new("pax: unknown key", t().pax(&[("VENDOR.path", b"x")]).file("x", b"").end(), key("VENDOR.path")),
        Case::new("pax: key in capitals", t().pax(&[("PATH", b"../x")]).file("x", b"").end(), key("PATH")),
        Case::new("pax: character set", t().pax(&[("hdrcharset", b"BINARY")]).file("x", b"").end(), key("hdrcharset")),
        Case::new("pax: length too long", raw(b'x', b"99 path=a\n"), Reason::Pax),
        Case::new("pax: length too short", raw(b'x', b"5 path=a\n"), Reason::Pax),
        Case::new("pax: length in the middle of the next", raw(b'x', b"11 path=a\n9 path=b\n"), Reason::Pax),
        Case::new("pax: length with zeros", raw(b'x', b"0010 path=a\n"), Reason::Pax),
        Case::new("pax: negative length", raw(b'x', b"-9 path=a\n"), Reason::Pax),
        Case::new("pax: zero length", raw(b'x', b"0 path=a\n"), Reason::Pax),
        Case::new("pax: huge length", raw(b'x', b"18446744073709551616 path=a\n"), Reason::Pax),
        Case::new("pax: no line break", raw(b'x', b"9 path=ab"), Reason::Pax),
        Case::new("pax: no key", raw(b'x', b"5 =a\n"), Reason::Pax),
        Case::new("pax: no value", raw(b'x', b"7 path\n"), Reason::Pax),
        Case::new("pax: zero bytes behind", raw(b'x', b"9 path=a\n\0\0\0\0"), Reason::Pax),
        Case::new("pax: key with a zero byte", raw(b'x', b"11 pa\0th=a\n"), Reason::Pax),
        Case::new("pax: noise", raw(b'x', &[0xaa; 600]), Reason::Pax),
        Case::new(
            "pax: two in a row",
            t().pax(&[("path", b"a")]).pax(&[("mtime", b"1")]).file("x", b"").end(),
            Reason::Dangling,
        ),
        Case::new("pax: before the end", t().pax(&[("path", b"a")]).end(), Reason::Dangling),
        Case::new(
            "pax: before a global header",
            t().pax(&[("path", b"a")]).global(&[("comment", b"c")]).file("x", b"").end(),
            Reason::Dangling,
        ),
        Case::new(
            "pax: and a GNU long name",
            t().pax(&[("path", b"a")]).long(b'L', b"b\0").file("x", b"").end(),
            Reason::TwoNames,
        ),
        Case::new(
            "pax: after a GNU long name",
            t().long(b'L', b"b\0").pax(&[("path", b"a")]).file("x", b"").end(),
            Reason::TwoNames,
        ),
        Case::new(
            "pax: and a GNU long link",
            t().pax(&[("linkpath", b"a")]).long(b'K', b"b\0").sym("x", "c").end(),
            Reason::TwoNames,
        ),
        Case::new(
            "pax: too big",
            t().entry(Header::new(b"x", b'x', 70_000), &vec![b'a'; 70_000]).file("y", b"").end(),
            Reason::HeaderTooLong(65536),
        ),
        Case::new(
            "pax: of a terabyte",
            t().entry(Header::new(b"x", b'x', 1 << 32), b"").end(),
            Reason::HeaderTooLong(65536),
        ),
        Case::new("pax: global path", t().global(&[("path", b"../x")]).file("x", b"").end(), global("path")),
        Case::new("pax: global size", t().global(&[("size", b"0")]).file("x", b"abc").end(), global("size")),
        Case::new("pax: global target", t().global(&[("linkpath", b"/etc")]).sym("l", "x").end(), global("linkpath")),
        Case::new(
            "pax: global sparse",
            t().global(&[("GNU.sparse.major", b"1")]).file("x", b"").end(),
            global("GNU.sparse.major"),
        ),
        Case::new("pax: global noise", raw(b'g', b"not a record"), Reason::Pax),
        Case::new("gnu: long name without end", t().long(b'L', b"abc").file("x", b"").end(), Reason::LongName),
        Case::new(
            "gnu: long name with a zero byte",
            t().long(b'L', b"a\0../b\0").file("x", b"").end(),
            Reason::LongName,
        ),
        Case::new("gnu: long name of two zero bytes", t().long(b'L', b"a\0\0").file("x", b"").end(), Reason::LongName),
        Case::new("gnu: empty long name", t().long(b'L', b"\0").file("x", b"").end(), Reason::LongName),
        Case::new("gnu: long name of no bytes", t().long(b'L', b"").file("x", b"").end(), Reason::LongName),
        Case::new(
            "gnu: two long names",
            t().long(b'L', b"a\0").long(b'L', b"b\0").file("x", b"").end(),
            Reason::TwoNames,
        ),
        Case::new(
            "gnu: two long links",
            t().long(b'K', b"a\0").long(b'K', b"b\0").sym("x", "c").end(),
            Reason::TwoNames,
        ),
        Case::new("gnu: long name before the end", t().long(b'L', b"a\0").end(), Reason::Dangling),
        Case::new(
            "gnu: long name too big",
            t().long(b'L', &vec![b'a'; 70_000]).file("x", b"").end(),
            Reason::HeaderTooLong(65536),
        ),
    ]
}

fn ends() -> Vec<Case> {
    let t = Tar::new;
    let whole = t().file("app/b", &[7; 3000]).end();
    let cut = |at: usize| whole[..at].to_vec();
    let smuggled = Tar::default().file("../evil", b"x").end();
    let mut bad_crc = gzip(&whole);
    let at = bad_crc.len() - 8;
    bad_crc[at] ^= 1;
    let mut flipped = xz(&whole);
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0x55;
    let damaged = Reason::Damaged(String::new());
    let packed = gzip(&whole);
    vec![
        Case::new("tar: cut in a header", cut(1300), Reason::Truncated),
        Case::new("tar: cut in the data", cut(2600), Reason::Truncated),
        Case::new("tar: cut in the padding", cut(512 + 512 + 512 + 3010), Reason::Truncated),
        Case::new("tar: no end", cut(whole.len() - 1024), Reason::Truncated),
        Case::new("tar: half an end", cut(whole.len() - 512), Reason::Truncated),
        Case::new("tar: two archives", [whole.clone(), smuggled.clone()].concat(), Reason::Trailing),
        Case::new("tar: one zero block between", t().raw(&[0; 512]).file("../evil", b"x").end(), Reason::Trailing),
        Case::new("tar: text behind", [whole.clone(), b"#!/bin/sh\n".to_vec()].concat(), Reason::Trailing),
        Case::new(
            "tar: announces more than it has",
            t().entry(Header::new(b"x", b'0', 1 << 30), b"x").end(),
            Reason::Truncated,
        ),
        Case::new(
            "tar: only an end",
            {
                let mut all = t().0;
                all.truncate(0);
                all.resize(1024, 0);
                all
            },
            Reason::Format("something else"),
        ),
        Case::new("tar: only directories", Tar::default().dir("a").dir("b").end(), Reason::Empty),
        Case::new("gz: cut", packed[..packed.len() / 2].to_vec(), Reason::Truncated),
        Case::new("gz: checksum", bad_crc, damaged.clone()),
        Case::new("gz: garbage behind", [packed.clone(), b"garbage, enough of it".to_vec()].concat(), damaged.clone()),
        Case::new("gz: a second archive behind", [packed.clone(), gzip(&smuggled)].concat(), Reason::Trailing),
        Case::new("gz: of gz", gzip(&[packed.clone(), vec![b'x'; 512]].concat()), Reason::Checksum),
        Case::new("gz: of small gz", gzip(&packed), Reason::Truncated),
        Case::new("gz: of zip", gzip(&zip(&[Entry::stored("a", &[b'x'; 600])])), Reason::Checksum),
        Case::new("gz: of nothing", gzip(b""), Reason::Truncated),
        Case::new("gz: of a short text", gzip(b"hello"), Reason::Truncated),
        Case::new(
            "bz2: cut",
            {
                let all = bzip(&whole);
                all[..all.len() / 2].to_vec()
            },
            Reason::Truncated,
        ),
        Case::new("bz2: a second archive behind", [bzip(&whole), bzip(&smuggled)].concat(), Reason::Trailing),
        Case::new("xz: flipped", flipped, damaged.clone()),
        Case::new("xz: a second archive behind", [xz(&whole), xz(&smuggled)].concat(), Reason::Trailing),
        Case::new("xz: garbage behind", [xz(&whole), b"garbage, 16 byte".to_vec()].concat(), damaged.clone()),
        Case::new(
            "zst: cut",
            {
                let all = zst(&whole);
                all[..all.len() / 2].to_vec()
            },
            Reason::Truncated,
        ),
        Case::new("zst: a second archive behind", [zst(&whole), zst(&smuggled)].concat(), Reason::Trailing),
        Case::new("format: empty file", Vec::new(), Reason::Format("an empty file")),
        Case::new("format: HTML", b"<!DOCTYPE html><title>503</title>".to_vec(), Reason::Format("an HTML page")),
        Case::new("format: 7-Zip", b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(), Reason::Format("a 7-Zip archive")),
        Case::new("format: RAR", b"Rar!\x1a\x07\x01\0".to_vec(), Reason::Format("a RAR archive")),
        Case::new("format: ar", b"!<arch>\ndebian-binary".to_vec(), Reason::Format("an ar archive")),
        Case::new("format: cpio", b"0707010000".to_vec(), Reason::Format("a cpio archive")),
        Case::new("format: program", b"\x7fELF\x02\x01\x01".to_vec(), Reason::Format("a program")),
        Case::new("format: noise", vec![0x5a; 4096], Reason::Format("something else")),
    ]
}

fn bombs() -> Vec<Case> {
    let t = Tar::new;
    let zeros = vec![0; 32 << 20];
    let bomb = t().file("zeros", &zeros).end();
    let many = (0..60).fold(t(), |tar, at| tar.file(format!("f{at}"), b""));
    let wide = (0..30).fold(t(), |tar, at| tar.file(format!("{at}/a/b/c/d/e/f"), b""));
    let headers = (0..60).fold(t(), |tar, _| tar.global(&[("comment", b"again")]));
    let mut endless = t().end();
    endless.resize(40 << 20, 0);
    let big = t().entry(Header::new(b"x", b'0', 0).with(124, b"\x80\0\0\0\0\0\x01\0\0\0\0\0"), b"").end();
    vec![
        Case::limited("bomb: gz ratio", gzip(&bomb), |limits| limits.ratio = 100, Reason::Ratio(100)),
        Case::limited("bomb: bz2 ratio", bzip(&bomb), |limits| limits.ratio = 100, Reason::Ratio(100)),
        Case::limited("bomb: xz ratio", xz(&bomb), |limits| limits.ratio = 100, Reason::Ratio(100)),
        Case::limited("bomb: zst ratio", zst(&bomb), |limits| limits.ratio = 100, Reason::Ratio(100)),
        Case::limited("bomb: zeros behind the end", gzip(&endless), |limits| limits.ratio = 100, Reason::Ratio(100)),
        Case::limited("bomb: bytes", bomb, |limits| limits.bytes = 1 << 20, Reason::Bytes(1 << 20)),
        Case::limited("bomb: announced bytes", big, |limits| limits.bytes = 1 << 30, Reason::Bytes(1 << 30)),
        Case::limited("bomb: files", many.end(), |limits| limits.entries = 50, Reason::Entries(50)),
        Case::limited("bomb: directories not listed", wide.end(), |limits| limits.entries = 50, Reason::Entries(50)),
        Case::limited("bomb: headers", headers.end(), |limits| limits.entries = 50, Reason::Entries(50)),
        Case::limited(
            "bomb: one byte too many",
            t().file("x", &[1; 4096]).end(),
            |limits| limits.bytes = 4096,
            Reason::Bytes(4096),
        ),
    ]
}
