//! Where a file is cut into chunks: where restic cuts it, so that what one wrote the other need not write again
//! (<https://restic.readthedocs.io/en/stable/100_references.html#backups-and-deduplication>).

use std::io::{self, Read};

use rustic_cdc::{Polynom, Rabin64};
use rustic_core::repofile::ConfigFile;

use crate::host::vault::error::VaultError;

/// Bytes that decide about a cut behind them.
const WINDOW: usize = 64;

/// So many places are looked at side by side: the next value of the rolling hash needs the one before, and a
/// processor that waits for one can work at another.
const LANES: usize = 4;

/// Places that a lane looks at in one go.
const STRIDE: usize = 4 << 10;

/// What is read at once of a file that may be cut.
const READ: usize = 512 << 10;

/// The rule of a repository: Rabin's fingerprint of the last [`WINDOW`] bytes ends with zeros.
pub(super) struct Cuts {
    leaving: [u64; 256],
    reduced: [u64; 256],
    shift: u32,
    mask: u64,
    least: usize,
    most: usize,
}

impl Cuts {
    pub fn new(config: &ConfigFile) -> Result<Self, VaultError> {
        let damaged = |what: &str| VaultError::Damaged { file: "config".to_owned(), what: what.to_owned() };
        let polynomial = config.poly().map_err(VaultError::library("take the polynomial"))?;
        let size = config.chunk_size();
        let (least, most) = (config.chunk_min_size(), config.chunk_max_size());
        let shift = u32::try_from(polynomial.degree() - 8).map_err(|_| damaged("its polynomial is too small"))?;
        if !size.is_power_of_two() || least < WINDOW || least > most || most > 1 << 30 {
            return Err(damaged("its sizes of chunks make no sense"));
        }
        Ok(Self {
            leaving: Rabin64::calculate_out_table(WINDOW, &polynomial),
            reduced: Rabin64::calculate_mod_table(&polynomial),
            shift,
            mask: size as u64 - 1,
            least,
            most,
        })
    }

    #[inline(always)]
    fn push(&self, hash: u64, byte: u8) -> u64 {
        ((hash << 8) | u64::from(byte)) ^ self.reduced[(hash >> self.shift) as u8 as usize]
    }

    #[inline(always)]
    fn slide(&self, hash: u64, leaves: u8, comes: u8) -> u64 {
        self.push(hash ^ self.leaving[leaves as usize], comes)
    }

    /// The fingerprint of what stands before `end`.
    fn hash(&self, bytes: &[u8], end: usize) -> u64 {
        bytes[end - WINDOW..end].iter().fold(0, |hash, byte| self.push(hash, *byte))
    }

    fn is_cut(&self, hash: u64) -> bool {
        hash & self.mask == 0
    }

    /// The first of the places `from..=to` where a chunk ends.
    fn first(&self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        if from > to {
            return None;
        }
        let mut at = from;
        if self.is_cut(self.hash(bytes, at)) {
            return Some(at);
        }
        // `at` was looked at.
        while to - at >= LANES * STRIDE {
            if self.any(bytes, at)
                && let Some(found) = self.one_by_one(bytes, at, at + LANES * STRIDE)
            {
                return Some(found);
            }
            at += LANES * STRIDE;
        }
        self.one_by_one(bytes, at, to)
    }

    /// The first of the places behind `from`, to `to`.
    fn one_by_one(&self, bytes: &[u8], from: usize, to: usize) -> Option<usize> {
        let mut hash = self.hash(bytes, from);
        let pairs = bytes[from - WINDOW..to - WINDOW].iter().zip(&bytes[from..to]);
        pairs.enumerate().find_map(|(number, (leaves, comes))| {
            hash = self.slide(hash, *leaves, *comes);
            self.is_cut(hash).then_some(from + number + 1)
        })
    }

    /// Whether there is one at all in the `LANES * STRIDE` places behind `from`.
    fn any(&self, bytes: &[u8], from: usize) -> bool {
        let starts: [usize; LANES] = std::array::from_fn(|lane| from + lane * STRIDE);
        let mut hashes = starts.map(|start| self.hash(bytes, start));
        let leaving = starts.map(|start| &bytes[start - WINDOW..start - WINDOW + STRIDE]);
        let coming = starts.map(|start| &bytes[start..start + STRIDE]);
        for number in 0..STRIDE {
            let mut cut = false;
            for lane in 0..LANES {
                hashes[lane] = self.slide(hashes[lane], leaving[lane][number], coming[lane][number]);
                cut |= self.is_cut(hashes[lane]);
            }
            if cut {
                return true;
            }
        }
        false
    }
}

/// A file, chunk by chunk.
pub(super) struct Chunks<'a, R> {
    cuts: &'a Cuts,
    from: R,
    /// Read and not yet handed on.
    bytes: Vec<u8>,
    has_ended: bool,
}

impl<'a, R: Read> Chunks<'a, R> {
    /// `length`: about how long it is, as far as it is known.
    pub fn new(cuts: &'a Cuts, from: R, length: usize) -> Self {
        // One more: so the end is seen without growing.
        let bytes = Vec::with_capacity(length.saturating_add(64).min(cuts.least + READ));
        Self { cuts, from, bytes, has_ended: false }
    }

    fn read(&mut self, more: usize) -> io::Result<()> {
        let read = (&mut self.from).take(more as u64).read_to_end(&mut self.bytes)?;
        self.has_ended = read < more;
        Ok(())
    }

    fn cut(&mut self, at: usize) -> Vec<u8> {
        let mut rest = Vec::with_capacity(self.cuts.least + READ);
        rest.extend_from_slice(&self.bytes[at..]);
        self.bytes.truncate(at);
        std::mem::replace(&mut self.bytes, rest)
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Cuts { least, most, .. } = *self.cuts;
        let mut from = least;
        loop {
            let to = self.bytes.len().min(most);
            if let Some(at) = self.cuts.first(&self.bytes, from, to) {
                return Ok(Some(self.cut(at)));
            }
            if to == most {
                return Ok(Some(self.cut(most)));
            }
            from = from.max(to + 1);
            if self.has_ended {
                let last = std::mem::take(&mut self.bytes);
                return Ok((!last.is_empty()).then_some(last));
            }
            self.read(least.saturating_sub(to).max(READ).min(most - to))?;
        }
    }
}

impl<R: Read> Iterator for Chunks<'_, R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts() -> Cuts {
        let config = serde_json::json!({ "version": 2, "id": "00".repeat(32), "chunker_polynomial": "3da3358b4dc173" });
        Cuts::new(&serde_json::from_value(config).unwrap()).unwrap()
    }

    /// SplitMix64.
    fn noise(mut seed: u64, length: usize) -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (word ^ (word >> 31)).to_le_bytes()
        };
        std::iter::repeat_with(&mut next).flatten().take(length).collect()
    }

    /// Reads as a pipe does: what there is.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 * 31 % 70_001 + 1;
            let length = self.1.min(buffer.len());
            self.0.read(&mut buffer[..length])
        }
    }

    /// The rule as the reference states it, byte after byte.
    fn slowly(cuts: &Cuts, mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let ends = (cuts.least..bytes.len().min(cuts.most)).find(|end| cuts.is_cut(cuts.hash(bytes, *end)));
            let length = ends.unwrap_or(bytes.len().min(cuts.most));
            lengths.push(length);
            bytes = &bytes[length..];
        }
        lengths
    }

    #[test]
    fn lanes_find_what_one_by_one_finds() {
        let cuts = cuts();
        for (seed, length) in [(1, 9 << 20), (2, (3 << 20) + 12_345), (3, 512 << 10), (4, 700_001), (5, 1), (6, 0)] {
            let bytes = noise(seed, length);
            let wanted = slowly(&cuts, &bytes);
            for chunks in [
                Chunks::new(&cuts, &bytes[..], length).collect::<Result<Vec<_>, _>>().unwrap(),
                Chunks::new(&cuts, Drops(&bytes, seed as usize), 0).collect::<Result<Vec<_>, _>>().unwrap(),
            ] {
                assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), wanted, "{seed}");
                assert!(chunks.concat() == bytes, "{seed}");
            }
        }
    }

    #[test]
    fn what_has_no_cut_is_cut_at_the_longest() {
        let cuts = cuts();
        // The fingerprint of zeros is zero: cut as early as it may be.
        let zeros = vec![0; 2 << 20];
        let lengths: Vec<_> = Chunks::new(&cuts, &zeros[..], 0).map(|chunk| chunk.unwrap().len()).collect();
        assert_eq!(lengths, [512 << 10; 4]);
        let ones = vec![1; 20 << 20];
        let lengths: Vec<_> = Chunks::new(&cuts, &ones[..], 0).map(|chunk| chunk.unwrap().len()).collect();
        assert_eq!(lengths, [8 << 20, 8 << 20, 4 << 20]);
    }
}
