use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::put;
use crate::host::{ArchiveLimits, Archives};

/// `scratch` is an empty directory that everybody may enter.
pub async fn archives(archives: &dyn Archives, scratch: &Path) {
    let limits = ArchiveLimits::default();
    let stage = |name: &str| {
        let stage = scratch.join(name);
        fs::create_dir(&stage).unwrap();
        stage
    };
    let good = scratch.join("good.tar");
    put(&good, tar(&[("app/index.php", 0o666), ("app/bin/run", 0o777)]));

    let unpacked = stage("unpacked");
    archives.unpack(&good, &unpacked, 1, &limits).await.expect("unpacks");
    let seen = |path: &str| {
        let seen = fs::symlink_metadata(unpacked.join(path)).unwrap();
        (seen.uid(), seen.mode() & 0o7777)
    };
    assert_eq!(fs::read(unpacked.join("index.php")).unwrap(), b"app/index.php");
    let root = nix::unistd::geteuid().as_raw();
    assert_eq!((seen("index.php"), seen("bin"), seen("bin/run")), ((root, 0o644), (root, 0o755), (root, 0o755)));
    assert!(unpacked.join("link").read_link().is_err(), "nothing but what the archive holds");
    assert_eq!(archives.unpack(&good, &unpacked, 1, &limits).await.unwrap_err().code, "archive.stage", "it is full");

    let whole = stage("whole");
    archives.unpack(&good, &whole, 0, &limits).await.expect("unpacks");
    assert!(whole.join("app/bin/run").is_file());

    let (out, text, powers) = (scratch.join("out.tar"), scratch.join("text"), scratch.join("powers.tar"));
    put(&powers, tar(&[("app/run", 0o4755)]));
    put(&out, tar(&[("app/../../escaped", 0o644)]));
    put(&text, "<html>moved</html>");
    let few = ArchiveLimits { entries: 1, ..limits.clone() };
    for (name, archive, limits) in
        [("a", &out, &limits), ("b", &text, &limits), ("c", &good, &few), ("f", &powers, &limits)]
    {
        let error = archives.unpack(archive, &stage(name), 1, limits).await.unwrap_err();
        assert_eq!(error.code, "archive.refused", "{}: {error}", archive.display());
    }
    assert!(!scratch.join("escaped").exists() && !scratch.parent().unwrap().join("escaped").exists());
    let missing = archives.unpack(&scratch.join("missing.tar"), &stage("d"), 1, &limits).await;
    assert_eq!(missing.unwrap_err().code, "archive.stage");

    // Links stay inside.
    symlink("../..", scratch.join("up")).unwrap();
    let linked = scratch.join("linked.tar");
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    builder.append_path_with_name(scratch.join("up"), "app/up").unwrap();
    put(&linked, builder.into_inner().unwrap());
    assert_eq!(archives.unpack(&linked, &stage("e"), 1, &limits).await.unwrap_err().code, "archive.refused");
}

/// Files that hold their own names, as nobody's packer but a hostile one writes them.
fn tar(files: &[(&str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(name.len() as u64);
        header.set_mode(*mode);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(0);
        header.set_cksum();
        builder.append(&header, name.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}
