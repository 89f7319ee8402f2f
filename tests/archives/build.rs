//! Writers of archives that no honest program would write.

use std::io::Write;

/// One tar header, with every field at hand.
#[derive(Clone)]
pub struct Header(pub [u8; 512]);

impl Header {
    pub fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self([0; 512]);
        header.set(0, name);
        header.octal(100..108, if kind == b'5' { 0o755 } else { 0o644 });
        header.octal(108..116, 0);
        header.octal(116..124, 0);
        header.octal(124..136, size);
        header.octal(136..148, 1_700_000_000);
        header.0[156] = kind;
        header.set(257, b"ustar\x0000");
        header
    }

    pub fn gnu(mut self) -> Self {
        self.set(257, b"ustar  \0");
        self
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn with(mut self, at: usize, bytes: &[u8]) -> Self {
        self.set(at, bytes);
        self
    }

    pub fn link(self, target: &[u8]) -> Self {
        self.with(157, target)
    }

    pub fn mode(mut self, mode: u64) -> Self {
        self.octal(100..108, mode);
        self
    }

    fn octal(&mut self, range: std::ops::Range<usize>, value: u64) {
        let width = range.len() - 1;
        let text = format!("{value:0width$o}");
        self.0[range.start..range.start + width].copy_from_slice(text.as_bytes());
    }

    pub fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.set(148, format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// With one honest file, so that no case is refused for being empty.
    pub fn new() -> Self {
        Self::default().file("app/index.php", b"<?php\n")
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn entry(self, header: Header, data: &[u8]) -> Self {
        let padding = data.len().next_multiple_of(512) - data.len();
        self.raw(&header.sealed()).raw(data).raw(&vec![0; padding])
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        self.entry(Header::new(name.as_ref(), b'0', data.len() as u64), data)
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(name.as_ref(), b'5', 0), b"")
    }

    pub fn sym(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(name.as_ref(), b'2', 0).link(target.as_ref()), b"")
    }

    pub fn hard(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.entry(Header::new(name.as_ref(), b'1', 0).link(target.as_ref()), b"")
    }

    pub fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data = pax_data(records);
        self.entry(Header::new(b"./PaxHeaders/x", b'x', data.len() as u64), &data)
    }

    pub fn global(self, records: &[(&str, &[u8])]) -> Self {
        let data = pax_data(records);
        self.entry(Header::new(b"pax_global_header", b'g', data.len() as u64), &data)
    }

    /// A GNU long name (`L`) or long link (`K`).
    pub fn long(self, kind: u8, data: &[u8]) -> Self {
        self.entry(Header::new(b"././@LongLink", kind, data.len() as u64).gnu(), data)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

pub fn pax_data(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        data.extend_from_slice(format!("{length} {key}=").as_bytes());
        data.extend_from_slice(value);
        data.push(b'\n');
    }
    data
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn bzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// One entry of a zip archive; its own header and the directory's can be made to differ.
#[derive(Clone)]
pub struct Entry {
    pub name: Vec<u8>,
    pub local_name: Option<Vec<u8>>,
    pub made_by: u8,
    pub flags: u16,
    pub local_flags: Option<u16>,
    pub method: u16,
    pub local_method: Option<u16>,
    pub crc: u32,
    pub local_crc: Option<u32>,
    /// As stored.
    pub data: Vec<u8>,
    pub packed: u32,
    pub local_packed: Option<u32>,
    pub size: u32,
    pub local_size: Option<u32>,
    pub mode: u32,
    pub dos: u8,
    pub extra: Vec<u8>,
    pub descriptor: Vec<u8>,
    /// Put before its own header.
    pub gap: Vec<u8>,
    /// Where the directory says its own header is, instead of where it is.
    pub at: Option<u32>,
    /// Only in the directory, only in the stream.
    pub no_local: bool,
    pub no_central: bool,
}

impl Entry {
    pub fn stored(name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            local_name: None,
            made_by: 3,
            flags: 0,
            local_flags: None,
            method: 0,
            local_method: None,
            crc: crc(data),
            local_crc: None,
            data: data.to_vec(),
            packed: data.len() as u32,
            local_packed: None,
            size: data.len() as u32,
            local_size: None,
            mode: 0o100_644,
            dos: 0,
            extra: Vec::new(),
            descriptor: Vec::new(),
            gap: Vec::new(),
            at: None,
            no_local: false,
            no_central: false,
        }
    }

    pub fn packed(name: impl AsRef<[u8]>, data: &[u8]) -> Self {
        let stored = deflated(data);
        Self { method: 8, packed: stored.len() as u32, data: stored, ..Self::stored(name, data) }
    }

    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Self { mode: 0o040_755, dos: 0x10, ..Self::stored(name, b"") }
    }

    pub fn sym(name: impl AsRef<[u8]>, target: &[u8]) -> Self {
        Self { mode: 0o120_777, ..Self::stored(name, target) }
    }

    /// Written by a program that does not know sizes beforehand.
    pub fn streamed(name: impl AsRef<[u8]>, data: &[u8], signature: bool) -> Self {
        let entry = Self::packed(name, data);
        let mut descriptor = if signature { b"PK\x07\x08".to_vec() } else { Vec::new() };
        for field in [entry.crc, entry.packed, entry.size] {
            descriptor.extend_from_slice(&field.to_le_bytes());
        }
        Self { flags: 8, local_crc: Some(0), local_packed: Some(0), local_size: Some(0), descriptor, ..entry }
    }
}

/// How a zip archive ends.
#[derive(Clone, Default)]
pub struct End {
    pub comment: Vec<u8>,
    pub count: Option<u16>,
    pub disk: u16,
    pub size: Option<u32>,
    pub start: Option<u32>,
    /// Between the directory and the end record.
    pub before: Vec<u8>,
    pub after: Vec<u8>,
    /// Before everything.
    pub prefix: Vec<u8>,
    /// Offsets count from behind the prefix.
    pub relative: bool,
}

pub fn zip(entries: &[Entry]) -> Vec<u8> {
    zip_ended(entries, &End::default())
}

pub fn zip_ended(entries: &[Entry], end: &End) -> Vec<u8> {
    let mut out = end.prefix.clone();
    let base = if end.relative { end.prefix.len() as u32 } else { 0 };
    let mut central = Vec::new();
    let mut count = 0;
    for entry in entries {
        out.extend_from_slice(&entry.gap);
        let at = entry.at.unwrap_or(out.len() as u32 - base);
        if !entry.no_local {
            local(&mut out, entry);
        }
        if !entry.no_central {
            count += 1;
            listed(&mut central, entry, at);
        }
    }
    let start = out.len() as u32 - base;
    out.extend_from_slice(&central);
    out.extend_from_slice(&end.before);
    let count = end.count.unwrap_or(count);
    out.extend_from_slice(b"PK\x05\x06");
    for value in [end.disk, end.disk, count, count] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&end.size.unwrap_or(central.len() as u32).to_le_bytes());
    out.extend_from_slice(&end.start.unwrap_or(start).to_le_bytes());
    out.extend_from_slice(&(end.comment.len() as u16).to_le_bytes());
    out.extend_from_slice(&end.comment);
    out.extend_from_slice(&end.after);
    out
}

fn local(out: &mut Vec<u8>, entry: &Entry) {
    let name = entry.local_name.as_ref().unwrap_or(&entry.name);
    out.extend_from_slice(b"PK\x03\x04\x14\0");
    out.extend_from_slice(&entry.local_flags.unwrap_or(entry.flags).to_le_bytes());
    out.extend_from_slice(&entry.local_method.unwrap_or(entry.method).to_le_bytes());
    out.extend_from_slice(&[0, 0, 0x21, 0x56]);
    out.extend_from_slice(&entry.local_crc.unwrap_or(entry.crc).to_le_bytes());
    out.extend_from_slice(&entry.local_packed.unwrap_or(entry.packed).to_le_bytes());
    out.extend_from_slice(&entry.local_size.unwrap_or(entry.size).to_le_bytes());
    out.extend_from_slice(&(name.len() as u16).to_le_bytes());
    out.extend_from_slice(&(entry.extra.len() as u16).to_le_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(&entry.extra);
    out.extend_from_slice(&entry.data);
    out.extend_from_slice(&entry.descriptor);
}

fn listed(out: &mut Vec<u8>, entry: &Entry, at: u32) {
    out.extend_from_slice(b"PK\x01\x02\x14");
    out.push(entry.made_by);
    out.extend_from_slice(b"\x14\0");
    out.extend_from_slice(&entry.flags.to_le_bytes());
    out.extend_from_slice(&entry.method.to_le_bytes());
    out.extend_from_slice(&[0, 0, 0x21, 0x56]);
    out.extend_from_slice(&entry.crc.to_le_bytes());
    out.extend_from_slice(&entry.packed.to_le_bytes());
    out.extend_from_slice(&entry.size.to_le_bytes());
    out.extend_from_slice(&(entry.name.len() as u16).to_le_bytes());
    out.extend_from_slice(&(entry.extra.len() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&((entry.mode << 16) | u32::from(entry.dos)).to_le_bytes());
    out.extend_from_slice(&at.to_le_bytes());
    out.extend_from_slice(&entry.name);
    out.extend_from_slice(&entry.extra);
}
