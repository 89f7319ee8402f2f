//! Hostile zip archives: name, bytes, why each is refused.

use socle::host::archive::Reason;

use super::Case;
use super::build::*;

fn good() -> Entry {
    Entry::packed("app/index.php", b"<?php\n")
}

fn with(entry: Entry) -> Vec<u8> {
    zip(&[good(), entry])
}

pub fn cases() -> Vec<Case> {
    let mut cases = names();
    cases.extend(kinds());
    cases.extend(mismatches());
    cases.extend(layouts());
    cases
}

fn names() -> Vec<Case> {
    let bad: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("parent", b"../evil".to_vec(), Reason::NameParent),
        ("parent in the middle", b"app/../../evil".to_vec(), Reason::NameParent),
        ("absolute", b"/etc/cron.d/evil".to_vec(), Reason::NameAbsolute),
        ("backslashes", b"..\\..\\evil".to_vec(), Reason::NameBackslash),
        ("drive", b"C:\\evil".to_vec(), Reason::NameBackslash),
        ("empty component", b"app//evil".to_vec(), Reason::NameComponent),
        ("dot and absolute", b".//etc/evil".to_vec(), Reason::NameComponent),
        ("zero byte", b"app/a\0b".to_vec(), Reason::NameControl),
        ("escape", b"app/\x1b[2J".to_vec(), Reason::NameControl),
        ("code page 437", b"app/caf\x82".to_vec(), Reason::NameUtf8),
        ("nothing", b"".to_vec(), Reason::NameEmpty),
        ("long component", vec![b'a'; 300], Reason::NameTooLong(255)),
        ("deep", "d/".repeat(80).into_bytes(), Reason::NameTooDeep(64)),
    ];
    let mut cases: Vec<Case> = bad
        .into_iter()
        .map(|(what, name, reason)| {
            let entry = if name.ends_with(b"/") { Entry::dir(name) } else { Entry::stored(name, b"x") };
            Case::new(format!("zip: named {what}"), with(entry), reason)
        })
        .collect();
    let utf8 = |name: &[u8]| Entry { flags: 1 << 11, ..Entry::stored(name, b"x") };
    let mut other_name = b"\x75\x70".to_vec();
    let mut payload = vec![1];
    let mut crc = flate2::Crc::new();
    crc.update(b"app/x");
    payload.extend_from_slice(&crc.sum().to_le_bytes());
    payload.extend_from_slice(b"app/y");
    other_name.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    other_name.extend_from_slice(&payload);
    cases.extend([
        Case::new("zip: UTF-8 flag on bad UTF-8", with(utf8(b"app/\xff")), Reason::NameUtf8),
        Case::new("zip: reversed text", with(utf8("app/\u{202e}x".as_bytes())), Reason::NameInvisible),
        Case::new(
            "zip: another name in an extra field",
            with(Entry { extra: other_name, ..Entry::stored("app/x", b"x") }),
            Reason::ZipMismatch("name"),
        ),
        Case::new("zip: file twice", with(Entry::stored("app/index.php", b"other")), Reason::Twice),
        Case::new(
            "zip: file twice, written with a dot",
            with(Entry::stored("./app/index.php", b"other")),
            Reason::Twice,
        ),
        Case::new("zip: file over a directory", with(Entry::stored("app", b"x")), Reason::Clash),
        Case::new("zip: directory over a file", with(Entry::dir("app/index.php/")), Reason::Clash),
    ]);
    cases
}

fn kinds() -> Vec<Case> {
    let mode = |mode: u32| Entry { mode, ..Entry::stored("app/x", b"x") };
    let sym = |target: &[u8]| with(Entry::sym("l", target));
    vec![
        Case::new("zip: link to the host", sym(b"/etc/passwd"), Reason::LinkAbsolute),
        Case::new("zip: link up", sym(b"../x"), Reason::LinkOutside),
        Case::new("zip: link down and up", sym(b"app/../../x"), Reason::LinkTwisted),
        Case::new("zip: link without target", sym(b""), Reason::LinkText),
        Case::new("zip: link with a huge target", sym(&vec![b'a'; 5000]), Reason::LinkText),
        Case::new("zip: link with a zero byte", sym(b"a\0b"), Reason::LinkText),
        Case::new(
            "zip: file through a link",
            zip(&[good(), Entry::sym("l", b"app"), Entry::stored("l/x", b"x")]),
            Reason::BelowLink,
        ),
        Case::new(
            "zip: file over a link",
            zip(&[good(), Entry::sym("l", b"app"), Entry::stored("./l", b"x")]),
            Reason::Clash,
        ),
        Case::new("zip: link over a directory", with(Entry::sym("app", b"x")), Reason::Clash),
        Case::new(
            "zip: link by another case",
            zip(&[good(), Entry::dir("D/"), Entry::sym("d", b"app")]),
            Reason::CaseOfLink,
        ),
        Case::new(
            "zip: packed link to the host",
            with(Entry { mode: 0o120_777, ..Entry::packed("l", b"/etc/shadow") }),
            Reason::LinkAbsolute,
        ),
        Case::new("zip: link from DOS", with(Entry { made_by: 0, ..Entry::sym("l", b"app") }), Reason::ZipType),
        Case::new("zip: link named as a directory", with(Entry::sym("l/", b"app")), Reason::ZipType),
        Case::new("zip: character device", with(mode(0o020_644)), Reason::Device),
        Case::new("zip: block device", with(mode(0o060_644)), Reason::Device),
        Case::new("zip: named pipe", with(mode(0o010_644)), Reason::Fifo),
        Case::new("zip: socket", with(mode(0o140_644)), Reason::Socket),
        Case::new("zip: unknown type", with(mode(0o170_644)), Reason::ZipType),
        Case::new("zip: set-user-ID", with(mode(0o104_755)), Reason::SetId),
        Case::new("zip: set-group-ID", with(mode(0o102_755)), Reason::SetId),
        Case::new("zip: set-user-ID from DOS", with(Entry { made_by: 0, ..mode(0o104_755) }), Reason::SetId),
        Case::new(
            "zip: directory that is a file",
            with(Entry { mode: 0o100_644, ..Entry::stored("d/", b"") }),
            Reason::ZipType,
        ),
        Case::new("zip: file that is a directory", with(mode(0o040_755)), Reason::ZipType),
        Case::new(
            "zip: DOS directory without slash",
            with(Entry { made_by: 0, mode: 0, dos: 0x10, ..mode(0) }),
            Reason::ZipType,
        ),
        Case::new(
            "zip: directory with content",
            with(Entry { mode: 0o040_755, ..Entry::stored("d/", b"data") }),
            Reason::Content,
        ),
        Case::new("zip: encrypted", with(Entry { flags: 1, ..good_named("x") }), Reason::ZipEncrypted),
        Case::new("zip: strongly encrypted", with(Entry { flags: 1 << 6, ..good_named("x") }), Reason::ZipEncrypted),
        Case::new("zip: hidden headers", with(Entry { flags: 1 << 13, ..good_named("x") }), Reason::ZipEncrypted),
        Case::new("zip: deflate64", with(Entry { method: 9, ..good_named("x") }), Reason::ZipMethod(9)),
        Case::new("zip: bzip2", with(Entry { method: 12, ..good_named("x") }), Reason::ZipMethod(12)),
        Case::new("zip: lzma", with(Entry { method: 14, ..good_named("x") }), Reason::ZipMethod(14)),
        Case::new("zip: AES", with(Entry { method: 99, ..good_named("x") }), Reason::ZipMethod(99)),
    ]
}

fn good_named(name: &str) -> Entry {
    Entry::packed(name, b"content of some length, twice, content of some length")
}

fn mismatches() -> Vec<Case> {
    let x = || good_named("app/x");
    let is = Reason::ZipMismatch;
    let big = x().size;
    vec![
        Case::new("zip: own name goes up", with(Entry { local_name: Some(b"../ev".to_vec()), ..x() }), is("name")),
        Case::new("zip: own name is longer", with(Entry { local_name: Some(b"app/xx".to_vec()), ..x() }), is("name")),
        Case::new("zip: own method", with(Entry { local_method: Some(0), ..x() }), is("method")),
        Case::new("zip: own flags", with(Entry { local_flags: Some(8), ..x() }), is("flags")),
        Case::new("zip: own checksum", with(Entry { local_crc: Some(1), ..x() }), is("checksum")),
        Case::new("zip: own size", with(Entry { local_size: Some(big + 1), ..x() }), is("size")),
        Case::new("zip: own packed size", with(Entry { local_packed: Some(1), ..x() }), is("packed size")),
        Case::new(
            "zip: own sizes zero",
            with(Entry { local_size: Some(0), local_packed: Some(0), ..x() }),
            is("packed size"),
        ),
        Case::new("zip: own size in 64 bits", with(Entry { local_size: Some(u32::MAX), ..x() }), is("size")),
        Case::new("zip: size too small", with(Entry { size: big - 1, ..x() }), Reason::Damaged(String::new())),
        Case::new("zip: size too big", with(Entry { size: big + 1, ..x() }), Reason::ZipSize),
        Case::new(
            "zip: stored size differs",
            with(Entry { size: 3, ..Entry::stored("app/x", b"abcdef") }),
            Reason::Damaged(String::new()),
        ),
        Case::new("zip: wrong checksum", with(Entry { crc: 7, ..x() }), Reason::Damaged(String::new())),
        Case::new(
            "zip: bad deflate",
            with(Entry { data: vec![0xff; x().data.len()], ..x() }),
            Reason::Damaged(String::new()),
        ),
        Case::new(
            "zip: descriptor differs",
            with(Entry {
                descriptor: [b"PK\x07\x08".as_slice(), &[9; 12]].concat(),
                ..Entry::streamed("app/x", b"abc", true)
            }),
            is("descriptor"),
        ),
        Case::new(
            "zip: descriptor without signature differs",
            with(Entry { descriptor: vec![9; 12], ..Entry::streamed("app/x", b"abc", false) }),
            is("descriptor"),
        ),
        Case::new(
            "zip: descriptor missing",
            with(Entry { descriptor: Vec::new(), ..Entry::streamed("app/x", b"abc", true) }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: descriptor in 64 bits",
            with(Entry { descriptor: vec![0; 24], ..Entry::streamed("app/x", b"abc", true) }),
            Reason::ZipLayout,
        ),
    ]
}

fn layouts() -> Vec<Case> {
    let ended = |end: End| zip_ended(&[good(), Entry::stored("app/x", b"x")], &end);
    let kernel = Entry::packed("0", &vec![0; 24 << 20]);
    let mut overlap = vec![kernel.clone()];
    overlap.extend((1..200).map(|at| Entry {
        name: format!("{at}").into_bytes(),
        no_local: true,
        at: Some(0),
        ..kernel.clone()
    }));
    let quoted = {
        // One entry's data holds the next entry's header (zbsm): each is listed, all share the kernel.
        let inner = zip(&[good_named("b")]);
        let own = &inner[..inner.len() - 22 - 47];
        Entry { packed: own.len() as u32, size: own.len() as u32, ..Entry::stored("a", own) }
    };
    let quoted_at = 30 + 1;
    let listed = Entry { no_local: true, at: Some(quoted_at), ..good_named("b") };
    let whole = ended(End::default());
    let inner_end = zip(&[Entry::stored("../evil", b"x")]);
    let many: Vec<Entry> = (0..60).map(|at| Entry::stored(format!("f{at}"), b"")).collect();
    let zeros = vec![0; 32 << 20];
    vec![
        Case::new(
            "zip: hidden entry in the stream",
            zip(&[good(), Entry { no_central: true, ..Entry::stored("../evil", b"x") }]),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: hidden entry first",
            zip(&[Entry { no_central: true, ..Entry::stored("../evil", b"x") }, good()]),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: gap between entries",
            with(Entry { gap: vec![0; 8], ..Entry::stored("app/x", b"x") }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: entry listed twice under two names",
            zip(&[good(), Entry { no_local: true, at: Some(0), ..Entry::packed("app/index.pHp", b"<?php\n") }]),
            Reason::ZipLayout,
        ),
        Case::new("zip: full overlap bomb", zip(&overlap), Reason::ZipLayout),
        Case::new("zip: quoted overlap bomb", zip(&[quoted, listed]), Reason::ZipLayout),
        Case::new(
            "zip: entry inside the directory",
            with(Entry { at: Some(200), ..Entry::stored("app/x", b"x") }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: entry behind the file",
            with(Entry { at: Some(1 << 20), ..Entry::stored("app/x", b"x") }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: packed size into the directory",
            with(Entry { packed: 5000, ..Entry::stored("app/x", b"x") }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: something before it",
            ended(End { prefix: b"#!/bin/sh\n".to_vec(), ..End::default() }),
            Reason::Format("something else"),
        ),
        Case::new(
            "zip: an archive before it",
            zip_ended(
                &[good()],
                &End { prefix: zip(&[Entry::stored("../evil", b"x")]), relative: true, ..End::default() },
            ),
            Reason::ZipDirectory,
        ),
        Case::new(
            "zip: an archive before it, counted",
            zip_ended(&[good()], &End { prefix: inner_end.clone(), ..End::default() }),
            Reason::ZipLayout,
        ),
        Case::new(
            "zip: something behind it",
            ended(End { after: b"garbage".to_vec(), ..End::default() }),
            Reason::ZipEnd,
        ),
        Case::new(
            "zip: an archive behind it",
            ended(End { after: inner_end.clone(), ..End::default() }),
            Reason::ZipDirectory,
        ),
        Case::new(
            "zip: an archive in its comment",
            ended(End { comment: inner_end, ..End::default() }),
            Reason::ZipEnd,
        ),
        Case::new(
            "zip: an end record in its comment",
            ended(End { comment: [b"PK\x05\x06".as_slice(), &[0; 30]].concat(), ..End::default() }),
            Reason::ZipEnd,
        ),
        Case::new(
            "zip: something before the end record",
            ended(End { before: vec![0; 16], ..End::default() }),
            Reason::ZipDirectory,
        ),
        Case::new(
            "zip: 64-bit locator",
            ended(End { before: [b"PK\x06\x07".as_slice(), &[0; 16]].concat(), ..End::default() }),
            Reason::Zip64,
        ),
        Case::new("zip: 64-bit count", ended(End { count: Some(u16::MAX), ..End::default() }), Reason::Zip64),
        Case::new("zip: 64-bit size", ended(End { size: Some(u32::MAX), ..End::default() }), Reason::Zip64),
        Case::new("zip: 64-bit start", ended(End { start: Some(u32::MAX), ..End::default() }), Reason::Zip64),
        Case::new("zip: 64-bit entry", with(Entry { size: u32::MAX, ..Entry::stored("app/x", b"x") }), Reason::Zip64),
        Case::new("zip: second disk", ended(End { disk: 1, ..End::default() }), Reason::ZipParts),
        Case::new("zip: count too small", ended(End { count: Some(1), ..End::default() }), Reason::ZipDirectory),
        Case::new("zip: count too big", ended(End { count: Some(3), ..End::default() }), Reason::ZipDirectory),
        Case::new("zip: directory elsewhere", ended(End { start: Some(3), ..End::default() }), Reason::ZipDirectory),
        Case::new("zip: directory size", ended(End { size: Some(3), ..End::default() }), Reason::ZipDirectory),
        Case::new("zip: cut", whole[..whole.len() - 10].to_vec(), Reason::ZipEnd),
        Case::new("zip: only a beginning", b"PK\x03\x04".to_vec(), Reason::ZipEnd),
        Case::new("zip: empty", zip(&[]), Reason::Format("an empty zip archive")),
        Case::new("zip: only directories", zip(&[Entry::dir("a/")]), Reason::Empty),
        Case::limited(
            "zip: ratio bomb",
            zip(&[Entry::packed("zeros", &zeros)]),
            |limits| limits.ratio = 100,
            Reason::Ratio(100),
        ),
        Case::limited(
            "zip: bytes",
            zip(&[Entry::packed("zeros", &zeros)]),
            |limits| limits.bytes = 1 << 20,
            Reason::Bytes(1 << 20),
        ),
        Case::limited(
            "zip: announced bytes",
            with(Entry { size: 4_000_000_000, local_size: None, ..Entry::stored("app/x", b"x") }),
            |limits| limits.bytes = 1 << 30,
            Reason::Bytes(1 << 30),
        ),
        Case::limited("zip: entries", zip(&many), |limits| limits.entries = 50, Reason::Entries(50)),
    ]
}
