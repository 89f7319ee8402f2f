//! Memory that a waiting daemon does not need.
//!
//! Owns: what the kernel is told about our own mappings. Never: touches what others share with us.

use std::ffi::c_void;
use std::io;
use std::ptr::with_exposed_provenance_mut;

/// Unmaps the pages of the program's own code, some twenty megabytes after a pass. They stay in the page cache as
/// long as the machine has no better use for them, and are mapped again as they are called: less than a millisecond
/// for a look at everything.
pub fn unmap_code() -> io::Result<()> {
    let program = std::fs::read_link("/proc/self/exe")?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    for (start, end) in program.to_str().into_iter().flat_map(|program| code(&maps, program)) {
        forget(start, end - start)?;
    }
    Ok(())
}

/// Where the code of `program` is mapped, by a text as in `/proc/self/maps` (proc_pid_maps(5)).
fn code<'a>(maps: &'a str, program: &'a str) -> impl Iterator<Item = (usize, usize)> + 'a {
    maps.lines().filter_map(move |line| {
        let (range, rest) = line.split_once(' ')?;
        // Of a private mapping that can be run and cannot be written to, nothing is lost.
        let file = rest.strip_prefix("r-xp ")?;
        let (start, end) = range.split_once('-')?;
        let ours = file.splitn(4, ' ').nth(3)?.trim_start() == program;
        let address = |text| usize::from_str_radix(text, 16).ok();
        ours.then_some(address(start).zip(address(end))?)
    })
}

#[allow(unsafe_code)]
fn forget(start: usize, length: usize) -> io::Result<()> {
    let start: *mut c_void = with_exposed_provenance_mut(start);
    // SAFETY: the range is a private mapping of a file that was never written to, so every page is read from the
    // file as it was (madvise(2), MADV_DONTNEED). The mapping itself keeps the file, even one that was replaced.
    Ok(unsafe { rustix::mm::madvise(start, length, rustix::mm::Advice::LinuxDontNeed) }?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code() {
        let maps = "\
55d0a0000000-55d0a04fb000 r--p 00000000 08:01 42                         /usr/bin/socle
55d0a04fb000-55d0a1acf000 r-xp 004fa000 08:01 42                         /usr/bin/socle
55d0a1acf000-55d0a1b4e000 rw-p 01ace000 08:01 42                         /usr/bin/socle
7f0000000000-7f0000001000 r-xp 00000000 08:01 43                         /usr/bin/socle-other
7f0000002000-7f0000003000 r-xp 00000000 00:00 0 
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]
";
        assert_eq!(code(maps, "/usr/bin/socle").collect::<Vec<_>>(), [(0x55d0_a04f_b000, 0x55d0_a1ac_f000)]);
        let replaced = maps.replace("/usr/bin/socle\n", "/usr/bin/socle (deleted)\n");
        assert_eq!(code(&replaced, "/usr/bin/socle (deleted)").count(), 1);
    }

    /// Whatever was mapped before: how much that is depends on what the page cache holds.
    #[test]
    #[allow(unsafe_code)]
    fn the_program_goes_on_with_less() {
        let text = |path: &str| std::fs::read_to_string(path).unwrap();
        let mapped = || {
            let status = text("/proc/self/status");
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let mut size = 0;
        for (start, end) in code(&text("/proc/self/maps"), program.to_str().unwrap()) {
            size += (end - start) / 1024;
            let start: *mut c_void = with_exposed_provenance_mut(start);
            // SAFETY: reads the pages of a mapping of ours into memory, and changes none (madvise(2)).
            unsafe { rustix::mm::madvise(start, end - (start as usize), rustix::mm::Advice::LinuxPopulateRead) }
                .unwrap();
        }
        let before = mapped();
        unmap_code().unwrap();
        let after = mapped();
        // What looking and unmapping need themselves is mapped again.
        assert!(after + size as u64 / 2 < before, "{after} KiB after {before}, of {size} KiB of code");
    }
}
