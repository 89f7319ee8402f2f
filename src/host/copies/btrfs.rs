//! What of btrfs has no other interface than ioctl(2) (`linux/btrfs.h`).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::ioctl::{Setter, Updater, ioctl, opcode};

const MAGIC: u64 = 0x9123_683e;
/// The number of the first inode of every subvolume.
const FIRST_INODE: u64 = 256;
const GROUP: u8 = 0x94;
const READ_ONLY: u64 = 1 << 1;

/// `struct btrfs_ioctl_vol_args_v2`
#[repr(C)]
struct Create {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_vol_args`
#[repr(C)]
struct Named {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_get_subvol_rootref_args`
#[repr(C)]
struct Below {
    min_treeid: u64,
    rootref: [[u64; 2]; 255],
    num_items: u8,
    align: [u8; 7],
}

const SUBVOL_CREATE: u32 = opcode::write::<Named>(GROUP, 14);
const SNAP_CREATE_V2: u32 = opcode::write::<Create>(GROUP, 23);
const SNAP_DESTROY: u32 = opcode::write::<Named>(GROUP, 15);
const GET_SUBVOL_ROOTREF: u32 = opcode::read_write::<Below>(GROUP, 61);

/// A subvolume without subvolumes in it: of those, a snapshot holds nothing. What cannot be found out is none.
pub(super) fn is_plain_subvolume(path: &Path) -> bool {
    let look = || -> io::Result<bool> {
        let about = std::fs::symlink_metadata(path)?;
        let magic = rustix::fs::statfs(path)?.f_type;
        // Its width is the machine's.
        if !about.is_dir() || about.ino() != FIRST_INODE || u64::try_from(magic).ok() != Some(MAGIC) {
            return Ok(false);
        }
        Ok(subvolumes_in(&File::open(path)?)? == 0)
    };
    look().unwrap_or(false)
}

#[allow(unsafe_code)]
fn subvolumes_in(subvolume: &File) -> io::Result<u8> {
    let mut below = Below { min_treeid: 0, rootref: [[0; 2]; 255], num_items: 0, align: [0; 7] };
    // SAFETY: the kernel fills a structure of this layout, which lives until it answers.
    unsafe { ioctl(subvolume, Updater::<GET_SUBVOL_ROOTREF, Below>::new(&mut below)) }?;
    Ok(below.num_items)
}

#[allow(unsafe_code)]
pub(super) fn snapshot(of: &Path, to: &Path, read_only: bool) -> io::Result<()> {
    let (parent, name) = split(to)?;
    let of = File::open(of)?;
    let flags = if read_only { READ_ONLY } else { 0 };
    let mut create = Create { fd: of.as_raw_fd().into(), transid: 0, flags, unused: [0; 4], name: [0; 4040] };
    fill(&mut create.name, name)?;
    // SAFETY: the kernel reads a structure of this layout, whose name ends with a zero; the descriptor in it is open.
    unsafe { ioctl(&parent, Setter::<SNAP_CREATE_V2, Create>::new(create)) }?;
    Ok(())
}

/// Makes an empty subvolume at `name` of an open directory of btrfs; needs no more than a directory would.
#[allow(unsafe_code)]
pub(super) fn create(parent: &File, name: &OsStr) -> io::Result<()> {
    let mut named = Named { fd: 0, name: [0; 4088] };
    fill(&mut named.name, name)?;
    // SAFETY: the kernel reads a structure of this layout, whose name ends with a zero.
    unsafe { ioctl(parent, Setter::<SUBVOL_CREATE, Named>::new(named)) }?;
    Ok(())
}

/// Whether an open file or directory is on btrfs.
pub(super) fn is_on(file: &File) -> bool {
    // Its width is the machine's.
    rustix::fs::fstatfs(file).is_ok_and(|about| u64::try_from(about.f_type).ok() == Some(MAGIC))
}

#[allow(unsafe_code)]
pub(super) fn destroy(path: &Path) -> io::Result<()> {
    let (parent, name) = split(path)?;
    let mut named = Named { fd: 0, name: [0; 4088] };
    fill(&mut named.name, name)?;
    // SAFETY: the kernel reads a structure of this layout, whose name ends with a zero.
    unsafe { ioctl(&parent, Setter::<SNAP_DESTROY, Named>::new(named)) }?;
    Ok(())
}

fn split(path: &Path) -> io::Result<(File, &OsStr)> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok((File::open(parent)?, name))
}

fn fill(to: &mut [u8], name: &OsStr) -> io::Result<()> {
    let name = name.as_bytes();
    // The last byte stays a zero.
    let room = to.len() - 1;
    to[..room].get_mut(..name.len()).ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(name);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<Create>(), 4096);
        assert_eq!(size_of::<Named>(), 4096);
        assert_eq!(size_of::<Below>(), 4096);
        assert_eq!([SNAP_CREATE_V2, SNAP_DESTROY, GET_SUBVOL_ROOTREF], [0x5000_9417, 0x5000_940f, 0xd000_943d]);
        assert_eq!(SUBVOL_CREATE, 0x5000_940e);
    }

    #[test]
    fn another_file_system_has_no_subvolumes() {
        assert!(!is_plain_subvolume(Path::new("/proc")));
        assert!(!is_plain_subvolume(Path::new("/nonexistent")));
        assert!(!is_on(&File::open("/proc").unwrap()));
    }
}
