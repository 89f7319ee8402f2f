//! Trees that file systems, tools and formats are not kind about.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::Bench;
use crate::tree::{assert_same, look, noise, plant_hostile};

#[tokio::test]
async fn names_links_modes_owners_attributes_and_depth_come_back() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, for owners and devices");
        return;
    }
    let bench = Bench::new().await;
    let from = bench.path("from");
    plant_hostile(&from);
    std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
    let saved = bench.save(&from, 0).await;
    fs::remove_file(from.join("socket")).unwrap();
    let to = bench.restore(&saved.snapshot.id, "to").await;
    // The removal changed the directory's time.
    let mtime = fs::metadata(&to).unwrap().modified().unwrap();
    fs::File::open(&from).unwrap().set_modified(mtime).unwrap();
    assert_same(&from, &to);
    assert_eq!(fs::metadata(to.join("one")).unwrap().ino(), fs::metadata(to.join("names/two")).unwrap().ino());
    bench.is_sound().await;
    bench.restore(&saved.snapshot.id, "to").await;
    assert_same(&from, &to);
}

#[tokio::test]
async fn a_path_longer_than_the_kernel_takes_comes_back() {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let bench = Bench::new().await;
    let from = bench.path("from");
    fs::create_dir(&from).unwrap();
    let name = "d".repeat(200);
    let directory = |path: &std::path::Path| rustix::fs::open(path, OFlags::DIRECTORY, Mode::empty()).unwrap();
    let mut fd = directory(&from);
    for _ in 0..60 {
        mkdirat(&fd, &*name, Mode::RWXU).unwrap();
        fd = openat(&fd, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&fd, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    let saved = bench.save(&from, 0).await;
    let to = bench.restore(&saved.snapshot.id, "to").await;
    let mut fd = directory(&to);
    for _ in 0..60 {
        fd = openat(&fd, &*name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&fd, "bottom", OFlags::RDONLY, Mode::empty()).unwrap();
    // Restored over it, it is removed again: by the same means.
    fs::create_dir(bench.path("small")).unwrap();
    fs::write(bench.path("small/file"), "x").unwrap();
    let small = bench.save(&bench.path("small"), 1).await;
    bench.restore(&small.snapshot.id, "to").await;
    assert_same(&bench.path("small"), &to);
}

#[tokio::test]
async fn a_sparse_file_comes_back_sparse() {
    use std::os::unix::fs::FileExt;
    let bench = Bench::new().await;
    let from = bench.path("from");
    fs::create_dir(&from).unwrap();
    let file = fs::File::create(from.join("image")).unwrap();
    file.set_len(300 << 20).unwrap();
    for at in [0, 123 << 20, (200 << 20) + 12345] {
        file.write_all_at(b"an island", at).unwrap();
    }
    let saved = bench.save(&from, 0).await;
    let to = bench.restore(&saved.snapshot.id, "to").await;
    assert_same(&from, &to);
    let blocks = fs::metadata(to.join("image")).unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
}

#[tokio::test]
#[ignore = "minutes: `scripts/test backup --full` runs it"]
async fn a_hundred_thousand_files_come_back() {
    let bench = Bench::new().await;
    let from = bench.path("from");
    for number in 0..100_000 {
        let directory = from.join(format!("{:02}/{:02}", number % 37, number % 41));
        if number < 37 * 41 {
            fs::create_dir_all(&directory).unwrap();
        }
        fs::write(directory.join(format!("file-{number}")), format!("the content of {number}\n")).unwrap();
    }
    let saved = bench.save(&from, 0).await;
    assert_eq!(saved.snapshot.files, 100_000);
    let again = bench.save(&from, 1).await;
    assert_eq!(again.snapshot.added, Some(0));
    let to = bench.restore(&again.snapshot.id, "to").await;
    assert_same(&from, &to);
    bench.is_sound().await;
}

#[tokio::test]
#[ignore = "minutes: `scripts/test backup --full` runs it"]
async fn a_file_of_five_gigabytes_comes_back() {
    use std::io::Write;
    let bench = Bench::new().await;
    let from = bench.path("from");
    fs::create_dir(&from).unwrap();
    let mut file = fs::File::create(from.join("film")).unwrap();
    // Some of it comes again, and it is there once at a time: disks of tests are small.
    for mebibyte in 0..5 << 10 {
        file.write_all(&noise(mebibyte % 700, 1 << 20)).unwrap();
    }
    let saved = bench.save(&from, 0).await;
    assert_eq!(saved.snapshot.bytes, 5 << 30);
    let before = look(&from);
    fs::remove_dir_all(&from).unwrap();
    bench.is_sound().await;
    let to = bench.restore(&saved.snapshot.id, "to").await;
    assert_eq!(look(&to), before);
}

#[tokio::test]
async fn mount_points_are_there_and_empty() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root, to mount");
        return;
    }
    let bench = Bench::new().await;
    let from = bench.path("from");
    fs::create_dir_all(from.join("mounted")).unwrap();
    fs::write(from.join("own"), "x").unwrap();
    let target = from.join("mounted");
    let none: Option<&str> = None;
    let mounted = nix::mount::mount(Some("tmpfs"), &target, Some("tmpfs"), nix::mount::MsFlags::empty(), none);
    if let Err(error) = mounted {
        eprintln!("skipped: cannot mount here: {error}");
        return;
    }
    fs::write(target.join("foreign"), "x").unwrap();
    let saved = bench.save(&from, 0).await;
    nix::mount::umount(&target).unwrap();
    assert_eq!(saved.snapshot.files, 1);
    let to = bench.restore(&saved.snapshot.id, "to").await;
    assert!(to.join("mounted").is_dir() && !to.join("mounted/foreign").exists());
}
