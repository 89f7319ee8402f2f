//! zip, read strictly: the end record, the directory and every entry's own header must agree, and
//! entries must follow each other without overlap or gap, so that a program that reads the directory
//! and one that reads the stream see the same files. The `zip` crate then decompresses and checks
//! the CRC.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::format::{Allowance, fill};
use super::name::NAME_BYTES;
use super::refusal::{Reason, UnpackError, shown};
use super::stage::Stage;

/// 65 534 entries with long names and extras stay far below this.
const DIRECTORY_BYTES: u64 = 32 << 20;

const SYMLINK: u32 = 0o120_000;
const STREAMED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;

/// An entry of the directory.
struct Record {
    name: Vec<u8>,
    made_by: u8,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    attributes: u32,
    /// Where its own header begins.
    start: u64,
}

pub(super) fn read(
    mut source: BufReader<File>,
    length: u64,
    allowance: &Allowance,
    stage: &mut Stage<'_>,
) -> Result<(), UnpackError> {
    let (records, directory_start) = directory(&mut source, length, stage.limits().entries)?;
    check_layout(&mut source, &records, directory_start)?;
    let total = records.iter().fold(0u64, |sum, record| sum.saturating_add(record.size));
    if total > stage.limits().bytes {
        return Err(Reason::Bytes(stage.limits().bytes).into());
    }
    allowance.check(total)?;
    let mut archive = zip::ZipArchive::new(source).map_err(damaged)?;
    // The crate keeps one entry per name.
    if archive.len() != records.len() || archive.offset() != 0 {
        return Err(Reason::Twice.into());
    }
    for (index, record) in records.iter().enumerate() {
        stage.count()?;
        unpack(&mut archive, index, record, stage).map_err(|error| error.at(&record.name))?;
    }
    Ok(())
}

fn damaged(error: zip::result::ZipError) -> UnpackError {
    match error {
        zip::result::ZipError::Io(error) if error.raw_os_error().is_some() => UnpackError::Read(error),
        other => Reason::Damaged(shown(other.to_string().as_bytes())).into(),
    }
}

/// Little-endian fields at fixed places.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

/// The directory's entries and where it begins.
fn directory(source: &mut BufReader<File>, length: u64, most: u64) -> Result<(Vec<Record>, u64), UnpackError> {
    let tail_start = length.saturating_sub(22 + 0xffff + 20);
    let tail = bytes_at(source, tail_start, length - tail_start)?;
    let at = end_record(&tail)?;
    let end = Fields(&tail[at..]);
    if end.u16(4) != 0 || end.u16(6) != 0 || end.u16(8) != end.u16(10) {
        return Err(Reason::ZipParts.into());
    }
    let (count, size, start) = (end.u16(10), u64::from(end.u32(12)), u64::from(end.u32(16)));
    let locator = at >= 20 && tail[at - 20..].starts_with(b"PK\x06\x07");
    if locator || count == u16::MAX || size == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        return Err(Reason::Zip64.into());
    }
    if u64::from(count) > most {
        return Err(Reason::Entries(most).into());
    }
    if size > DIRECTORY_BYTES {
        return Err(Reason::HeaderTooLong(DIRECTORY_BYTES).into());
    }
    if start + size != tail_start + at as u64 {
        return Err(Reason::ZipDirectory.into());
    }
    let listed = bytes_at(source, start, size)?;
    let mut rest = &listed[..];
    let mut records = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        records.push(record(&mut rest)?);
    }
    if rest.is_empty() { Ok((records, start)) } else { Err(Reason::ZipDirectory.into()) }
}

/// The one place where an end record with a comment of the right length can begin. Two of them, or
/// another record inside the comment, is how two programs are made to see two archives.
fn end_record(tail: &[u8]) -> Result<usize, Reason> {
    let magic = b"PK\x05\x06";
    let last = tail.len().checked_sub(22).ok_or(Reason::ZipEnd)?;
    let fits = |at: &usize| {
        tail[*at..].starts_with(magic) && at + 22 + usize::from(Fields(&tail[*at..]).u16(20)) == tail.len()
    };
    let mut found = (0..=last).filter(fits);
    match (found.next(), found.next()) {
        (Some(at), None) if !tail[at + 22..].windows(4).any(|window| window == magic) => Ok(at),
        _ => Err(Reason::ZipEnd),
    }
}

fn record(rest: &mut &[u8]) -> Result<Record, Reason> {
    let (fixed, after) = rest.split_at_checked(46).ok_or(Reason::ZipDirectory)?;
    if !fixed.starts_with(b"PK\x01\x02") {
        return Err(Reason::ZipDirectory);
    }
    let field = Fields(fixed);
    let (name, after) = after.split_at_checked(field.u16(28).into()).ok_or(Reason::ZipDirectory)?;
    let others = usize::from(field.u16(30)) + usize::from(field.u16(32));
    *rest = after.get(others..).ok_or(Reason::ZipDirectory)?;
    if [20, 24, 42].into_iter().any(|at| field.u32(at) == u32::MAX) {
        return Err(Reason::Zip64);
    }
    if field.u16(34) != 0 {
        return Err(Reason::ZipParts);
    }
    Ok(Record {
        name: name.to_vec(),
        made_by: fixed[5],
        flags: field.u16(8),
        method: field.u16(10),
        crc: field.u32(16),
        packed: field.u32(20).into(),
        size: field.u32(24).into(),
        attributes: field.u32(38),
        start: field.u32(42).into(),
    })
}

/// Every entry's own header matches the directory, and together they fill the file up to it.
fn check_layout(source: &mut BufReader<File>, records: &[Record], directory: u64) -> Result<(), UnpackError> {
    let mut in_order: Vec<&Record> = records.iter().collect();
    in_order.sort_by_key(|record| record.start);
    let mut at = 0;
    for (index, record) in in_order.iter().enumerate() {
        let next = in_order.get(index + 1).map_or(directory, |next| next.start);
        if record.start != at || next <= at {
            return Err(UnpackError::from(Reason::ZipLayout).at(&record.name));
        }
        check_own_header(source, record, next).map_err(|error| error.at(&record.name))?;
        at = next;
    }
    Ok(())
}

fn check_own_header(source: &mut BufReader<File>, record: &Record, next: u64) -> Result<(), UnpackError> {
    if record.start + 30 > next {
        return Err(Reason::ZipLayout.into());
    }
    let fixed = bytes_at(source, record.start, 30)?;
    if !fixed.starts_with(b"PK\x03\x04") {
        return Err(Reason::ZipMismatch("signature").into());
    }
    let own = Fields(&fixed);
    let streamed = record.flags & STREAMED != 0;
    let same = |own: u32, listed: u64| u64::from(own) == listed || (streamed && own == 0);
    for (matches, what) in [
        (own.u16(6) == record.flags, "flags"),
        (own.u16(8) == record.method, "method"),
        (same(own.u32(14), record.crc.into()), "checksum"),
        (same(own.u32(18), record.packed), "packed size"),
        (same(own.u32(22), record.size), "size"),
        (usize::from(own.u16(26)) == record.name.len(), "name"),
    ] {
        if !matches {
            return Err(Reason::ZipMismatch(what).into());
        }
    }
    let (name, extra) = (u64::from(own.u16(26)), u64::from(own.u16(28)));
    let data_end = record.start + 30 + name + extra + record.packed;
    if data_end > next {
        return Err(Reason::ZipLayout.into());
    }
    if bytes_at(source, record.start + 30, name)? != record.name {
        return Err(Reason::ZipMismatch("name").into());
    }
    let behind = next - data_end;
    match (streamed, behind) {
        (false, 0) => Ok(()),
        (true, 12 | 16) => check_descriptor(&bytes_at(source, data_end, behind)?, record).map_err(Into::into),
        _ => Err(Reason::ZipLayout.into()),
    }
}

/// What a streaming writer puts behind the data, with or without its signature.
fn check_descriptor(bytes: &[u8], record: &Record) -> Result<(), Reason> {
    let plain = if bytes.len() == 16 { bytes.strip_prefix(b"PK\x07\x08") } else { Some(bytes) };
    let field = Fields(plain.ok_or(Reason::ZipLayout)?);
    let listed = [u64::from(record.crc), record.packed, record.size];
    if [field.u32(0), field.u32(4), field.u32(8)].map(u64::from) == listed {
        Ok(())
    } else {
        Err(Reason::ZipMismatch("descriptor"))
    }
}

fn unpack(
    archive: &mut zip::ZipArchive<BufReader<File>>,
    index: usize,
    record: &Record,
    stage: &mut Stage<'_>,
) -> Result<(), UnpackError> {
    let mode = check_kind(record)?;
    let is_directory = record.name.ends_with(b"/");
    let Some(place) = stage.place(&record.name, is_directory)? else { return Ok(()) };
    if is_directory {
        return stage.directory(&place);
    }
    let mut content = archive.by_index(index).map_err(damaged)?;
    // An extra field can give an entry another name.
    if content.name().ok().as_deref().map(str::as_bytes) != Some(&record.name) {
        return Err(Reason::ZipMismatch("name").into());
    }
    if mode & 0o170_000 == SYMLINK {
        let mut target = vec![0; usize::try_from(record.size).unwrap_or(usize::MAX).min(NAME_BYTES + 1)];
        let whole = record.size <= NAME_BYTES as u64 && fill(&mut content, &mut target).map_err(short)?;
        if !whole {
            return Err(Reason::LinkText.into());
        }
        expect_end(&mut content)?;
        return stage.link(place, &target);
    }
    stage.file(&place, mode & 0o111 != 0, record.size, &mut content).map_err(short)?;
    expect_end(&mut content)
}

/// The end of the content, where the crate compares the CRC.
fn expect_end(content: &mut impl Read) -> Result<(), UnpackError> {
    if fill(content, &mut [0; 1]).map_err(short)? { Err(Reason::ZipSize.into()) } else { Ok(()) }
}

fn short(error: UnpackError) -> UnpackError {
    match error {
        UnpackError::Refused { reason: Reason::Truncated, .. } => Reason::ZipSize.into(),
        other => other,
    }
}

/// Checks what kind of entry it is; its Unix mode, or 0 if it has none.
fn check_kind(record: &Record) -> Result<u32, Reason> {
    if record.flags & ENCRYPTED != 0 {
        return Err(Reason::ZipEncrypted);
    }
    if !matches!(record.method, 0 | 8) {
        return Err(Reason::ZipMethod(record.method));
    }
    // Without the flag the name is in a code page nobody agrees on.
    if record.flags & UTF8 == 0 && !record.name.is_ascii() {
        return Err(Reason::NameUtf8);
    }
    let mode = record.attributes >> 16;
    // Unix, and macOS which writes the same.
    let unix = matches!(record.made_by, 3 | 19);
    let is_directory = record.name.ends_with(b"/");
    let fits = match mode & 0o170_000 {
        0 => true,
        0o100_000 => !is_directory,
        0o040_000 => is_directory,
        SYMLINK => unix && !is_directory,
        0o020_000 | 0o060_000 => return Err(Reason::Device),
        0o010_000 => return Err(Reason::Fifo),
        0o140_000 => return Err(Reason::Socket),
        _ => false,
    };
    if !fits || (record.attributes & 0x10 != 0 && !is_directory) {
        return Err(Reason::ZipType);
    }
    if mode & 0o6000 != 0 && !(is_directory && mode & 0o4000 == 0) {
        return Err(Reason::SetId);
    }
    if is_directory && record.size != 0 {
        return Err(Reason::Content);
    }
    Ok(if unix { mode } else { 0 })
}

fn bytes_at(source: &mut BufReader<File>, at: u64, length: u64) -> Result<Vec<u8>, UnpackError> {
    let now = source.stream_position().map_err(UnpackError::Read)?;
    // Keeps what is buffered: entries are looked at in the order of the file.
    match i64::try_from(at).ok().and_then(|at| at.checked_sub_unsigned(now)) {
        Some(by) => source.seek_relative(by).map_err(UnpackError::Read)?,
        None => drop(source.seek(SeekFrom::Start(at)).map_err(UnpackError::Read)?),
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Reason::Truncated)?];
    if !bytes.is_empty() && !fill(source, &mut bytes)? {
        return Err(Reason::Truncated.into());
    }
    Ok(bytes)
}
