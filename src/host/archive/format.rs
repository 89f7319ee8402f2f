//! What a file is, by its first bytes and never by its name, and the reader that takes it apart.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::OwnedFd;

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

use super::ahead::Decoder;
use super::refusal::{Reason, UnpackError, from_reader};
use super::stage::{Stage, Tally};
use super::{tar, zip};
use crate::host::ArchiveLimits;

/// Below this size no ratio is asked for: a small text file may well shrink a thousandfold.
const RATIO_FREE: u64 = 16 << 20;
/// What a decoder of xz may take for its dictionary: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 128 << 20;
/// `zstd --ultra -22` uses 2^27; the decoder takes as much memory.
const ZSTD_WINDOW_LOG: u32 = 27;

enum Packing {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Zip,
}

/// Unpacks `archive` into the empty directory `root`, in this process. The caller has no powers that
/// it would miss: [`super::child_main`] drops them first, tests look at the outcome.
pub fn extract(
    mut archive: File,
    root: OwnedFd,
    strip: u32,
    limits: &ArchiveLimits,
    decoder: Decoder,
) -> Result<Tally, UnpackError> {
    let packed = archive.metadata().map_err(UnpackError::Read)?.len();
    let packing = sniff(&mut archive)?;
    let mut stage = Stage::new(root, strip, limits);
    let allowance = Allowance::new(packed, limits);
    let buffered = BufReader::with_capacity(64 * 1024, archive);
    match packing {
        Packing::Zip => zip::read(buffered, packed, &allowance, &mut stage)?,
        Packing::None => tar::read(buffered, &mut stage)?,
        Packing::Gzip => tar::read(decoder.read(allowance.meter(MultiGzDecoder::new(buffered))), &mut stage)?,
        Packing::Bzip2 => tar::read(decoder.read(allowance.meter(MultiBzDecoder::new(buffered))), &mut stage)?,
        Packing::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map_err(|error| UnpackError::Read(error.into()))?;
            tar::read(decoder.read(allowance.meter(XzDecoder::new_stream(buffered, stream))), &mut stage)?;
        }
        Packing::Zstd => {
            let mut zstd = zstd::Decoder::with_buffer(buffered).map_err(UnpackError::Read)?;
            zstd.window_log_max(ZSTD_WINDOW_LOG).map_err(UnpackError::Read)?;
            tar::read(decoder.read(allowance.meter(zstd)), &mut stage)?;
        }
    }
    stage.finish()
}

fn sniff(archive: &mut File) -> Result<Packing, UnpackError> {
    let mut head = Vec::with_capacity(512);
    archive.by_ref().take(512).read_to_end(&mut head).map_err(UnpackError::Read)?;
    archive.rewind().map_err(UnpackError::Read)?;
    let known: [(&[u8], Packing); 5] = [
        (b"\x1f\x8b", Packing::Gzip),
        (b"BZh", Packing::Bzip2),
        (b"\xfd7zXZ\0", Packing::Xz),
        (b"\x28\xb5\x2f\xfd", Packing::Zstd),
        (b"PK\x03\x04", Packing::Zip),
    ];
    for (magic, packing) in known {
        if head.starts_with(magic) {
            return Ok(packing);
        }
    }
    // Only a tar header has its magic here; its version and its checksum are checked by the reader.
    if head.len() == 512 && &head[257..262] == b"ustar" {
        return Ok(Packing::None);
    }
    Err(Reason::Format(guess(&head)).into())
}

/// A word for what it seems to be, for the message only.
fn guess(head: &[u8]) -> &'static str {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    match () {
        () if head.is_empty() => "an empty file",
        () if text.starts_with(b"<!doctype html") || text.starts_with(b"<html") => "an HTML page",
        () if head.starts_with(b"7z\xbc\xaf\x27\x1c") => "a 7-Zip archive",
        () if head.starts_with(b"Rar!") => "a RAR archive",
        () if head.starts_with(b"PK\x05\x06") => "an empty zip archive",
        () if head.starts_with(b"!<arch>") => "an ar archive",
        () if head.starts_with(b"070701") => "a cpio archive",
        () if head.starts_with(b"\x7fELF") => "a program",
        () => "something else",
    }
}

/// How much may come out of an archive of a given size.
#[derive(Clone, Copy)]
pub(super) struct Allowance {
    most: u64,
    ratio: u64,
}

impl Allowance {
    fn new(packed: u64, limits: &ArchiveLimits) -> Self {
        Self { most: packed.saturating_mul(limits.ratio).max(RATIO_FREE), ratio: limits.ratio }
    }

    pub fn check(&self, bytes: u64) -> Result<(), Reason> {
        if bytes > self.most { Err(Reason::Ratio(self.ratio)) } else { Ok(()) }
    }

    fn meter<R: Read>(self, inner: R) -> Meter<R> {
        Meter { inner, bytes: 0, allowance: self }
    }
}

/// Counts what a decoder gives, headers and padding included.
struct Meter<R> {
    inner: R,
    bytes: u64,
    allowance: Allowance,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.bytes += got as u64;
        self.allowance.check(self.bytes).map_err(io::Error::other)?;
        Ok(got)
    }
}

/// Fills `buffer`, or tells that there was nothing (`false`) or only a part.
pub(super) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> Result<bool, UnpackError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(Reason::Truncated.into()),
            Ok(got) => filled += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(from_reader(error)),
        }
    }
    Ok(true)
}
