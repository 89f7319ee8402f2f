//! tar, read strictly: POSIX ustar, GNU long names, and extended headers (pax) of one entry. What two
//! programs could read in two ways is refused, so that whoever looked at the archive before us saw
//! the same files. Refused too: sparse files, volumes, devices, unknown types, and extended headers
//! that rename or resize all entries (the comment `git archive` writes is taken).

use std::io::Read;

use super::format::fill;
use super::pax::{self, Records};
use super::refusal::{Reason, UnpackError, from_reader};
use super::stage::Stage;

const BLOCK: usize = 512;
/// Of a long name or an extended header.
const HEADER_BYTES: u64 = 64 * 1024;

/// The fields of a header that matter, checked.
struct Header {
    kind: u8,
    name: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    size: u64,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Ahead {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_link.is_none() && self.records.is_none()
    }
}

pub(super) fn read(mut source: impl Read, stage: &mut Stage<'_>) -> Result<(), UnpackError> {
    let mut block = [0; BLOCK];
    let mut ahead = Ahead::default();
    loop {
        if !fill(&mut source, &mut block)? {
            return Err(Reason::Truncated.into());
        }
        if block == [0; BLOCK] {
            if !ahead.is_empty() {
                return Err(Reason::Dangling.into());
            }
            return end(&mut source);
        }
        stage.count()?;
        let header = parse(&block)?;
        match header.kind {
            b'x' | b'g' | b'L' | b'K' => extension(&mut source, &header, &mut ahead)?,
            _ => {
                let entry = resolve(header, std::mem::take(&mut ahead))?;
                unpack(&mut source, &entry, stage).map_err(|error| error.at(&entry.name))?;
                skip_padding(&mut source, entry.size)?;
            }
        }
    }
}

/// Two blocks of zeros end an archive; after them only zeros may come.
fn end(source: &mut impl Read) -> Result<(), UnpackError> {
    let mut block = [0; BLOCK];
    if !fill(source, &mut block)? {
        return Err(Reason::Truncated.into());
    }
    let mut rest = [0; 8 * 1024];
    let mut got = BLOCK;
    rest[..BLOCK].copy_from_slice(&block);
    while got > 0 {
        if rest[..got].iter().any(|byte| *byte != 0) {
            return Err(Reason::Trailing.into());
        }
        got = match source.read(&mut rest) {
            Ok(got) => got,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(from_reader(error)),
        };
    }
    Ok(())
}

fn parse(block: &[u8; BLOCK]) -> Result<Header, Reason> {
    let header = tar::Header::from_byte_slice(block);
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    let cksum: u64 = block[148..156].iter().map(|byte| u64::from(*byte)).sum();
    if number(&block[148..156]) != Some(sum - cksum + 8 * u64::from(b' ')) {
        return Err(Reason::Checksum);
    }
    let gnu = match &block[257..265] {
        b"ustar\x0000" | b"ustar\0\0\0" => false,
        b"ustar  \0" => true,
        _ => return Err(Reason::Magic),
    };
    let old = header.as_old();
    // Not used, but a program that reads them stops at one that is no number. A time may lie before 1970.
    for (bytes, what) in [(&old.uid[..], "owner"), (&old.gid, "group"), (&old.mtime, "time")] {
        if number(bytes).is_none() && !(what == "time" && bytes[0] == 0xff) {
            return Err(Reason::Number(what));
        }
    }
    let mut name = field(&old.name).to_vec();
    let prefix = &block[345..500];
    if gnu && prefix.iter().any(|byte| *byte != 0) {
        // Times of an incremental dump here, a prefix to others.
        return Err(if old.linkflag == *b"S" { Reason::Sparse } else { Reason::GnuPrefix });
    }
    if !gnu && prefix[0] != 0 {
        name = [field(prefix), b"/", &name].concat();
    }
    Ok(Header {
        kind: old.linkflag[0],
        name,
        link: field(&old.linkname).to_vec(),
        mode: number(&old.mode).and_then(|mode| u32::try_from(mode).ok()).ok_or(Reason::Number("mode"))?,
        size: number(&old.size).ok_or(Reason::Number("size"))?,
    })
}

fn field(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len())]
}

/// Octal digits, spaces before, spaces or zero bytes after; or the positive binary form of GNU.
fn number(bytes: &[u8]) -> Option<u64> {
    if bytes[0] == 0x80 {
        let (high, low) = bytes[1..].split_at_checked(bytes.len() - 9)?;
        let value = u64::from_be_bytes(low.try_into().ok()?);
        return (high.iter().all(|byte| *byte == 0) && value <= i64::MAX as u64).then_some(value);
    }
    let text = bytes.trim_ascii_start();
    let digits = text.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    if digits == 0 || text[digits..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    text[..digits].iter().try_fold(0u64, |value, digit| value.checked_mul(8)?.checked_add(u64::from(digit - b'0')))
}

/// Reads a header that speaks about the next entry, or (`g`) about all.
fn extension(source: &mut impl Read, header: &Header, ahead: &mut Ahead) -> Result<(), UnpackError> {
    if header.size > HEADER_BYTES {
        return Err(Reason::HeaderTooLong(HEADER_BYTES).into());
    }
    let mut data = vec![0; header.size as usize];
    if !data.is_empty() && !fill(source, &mut data)? {
        return Err(Reason::Truncated.into());
    }
    skip_padding(source, header.size)?;
    match header.kind {
        b'g' if !ahead.is_empty() => return Err(Reason::Dangling.into()),
        b'g' => pax::check_global(&data)?,
        b'x' if ahead.records.is_some() => return Err(Reason::Dangling.into()),
        b'x' => ahead.records = Some(pax::parse(&data)?),
        kind => {
            let slot = if kind == b'L' { &mut ahead.long_name } else { &mut ahead.long_link };
            if slot.replace(long(data)?).is_some() {
                return Err(Reason::TwoNames.into());
            }
        }
    }
    Ok(())
}

fn long(mut data: Vec<u8>) -> Result<Vec<u8>, Reason> {
    if data.pop() != Some(0) || data.is_empty() || data.contains(&0) {
        return Err(Reason::LongName);
    }
    Ok(data)
}

/// Puts what was said ahead into the entry's header.
fn resolve(mut header: Header, ahead: Ahead) -> Result<Header, UnpackError> {
    let records = ahead.records.unwrap_or_default();
    if records.size.is_some_and(|size| size != header.size) {
        return Err(UnpackError::from(Reason::PaxSize).at(&header.name));
    }
    header.name = one(ahead.long_name, records.path)?.unwrap_or(header.name);
    header.link = one(ahead.long_link, records.link)?.unwrap_or(header.link);
    Ok(header)
}

fn one(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, Reason> {
    match (gnu, pax) {
        (Some(_), Some(_)) => Err(Reason::TwoNames),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

fn unpack(source: &mut impl Read, entry: &Header, stage: &mut Stage<'_>) -> Result<(), UnpackError> {
    let is_directory = entry.kind == b'5';
    match entry.kind {
        b'0' | 0 | b'1' | b'2' | b'5' => {}
        b'3' | b'4' => return Err(Reason::Device.into()),
        b'6' => return Err(Reason::Fifo.into()),
        b'S' => return Err(Reason::Sparse.into()),
        b'M' | b'V' => return Err(Reason::Volume.into()),
        other => return Err(Reason::Type(char::from(other)).into()),
    }
    if entry.size != 0 && !matches!(entry.kind, b'0' | 0) {
        return Err(Reason::Content.into());
    }
    // Set-group-ID on a directory only says how it was shared where it was packed; no mode of a
    // directory is ever taken over.
    if entry.mode & 0o6000 != 0 && !(is_directory && entry.mode & 0o4000 == 0) {
        return Err(Reason::SetId.into());
    }
    let Some(place) = stage.place(&entry.name, is_directory)? else {
        return if is_directory || entry.size == 0 { Ok(()) } else { discard(source, entry.size) };
    };
    match entry.kind {
        b'5' => stage.directory(&place),
        b'2' => stage.link(place, &entry.link),
        b'1' => stage.hard_link(&place, &entry.link),
        _ => stage.file(&place, entry.mode & 0o111 != 0, entry.size, source),
    }
}

fn skip_padding(source: &mut impl Read, size: u64) -> Result<(), UnpackError> {
    discard(source, size.next_multiple_of(BLOCK as u64) - size)
}

fn discard(source: &mut impl Read, bytes: u64) -> Result<(), UnpackError> {
    let copied = std::io::copy(&mut source.take(bytes), &mut std::io::sink()).map_err(from_reader)?;
    if copied == bytes { Ok(()) } else { Err(Reason::Truncated.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (bytes, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", Some(256)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\x01\0", None),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-0000001\0\0\0\0", None),
            (b"+0000001\0\0\0\0", None),
            (b"0x10\0\0\0\0\0\0\0\0", None),
            (b"12 34\0\0\0\0\0\0\0", None),
            (b"00000000009\0", None),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0", None),
        ] {
            assert_eq!(number(bytes), value, "{bytes:?}");
        }
    }
}
