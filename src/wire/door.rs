//! A local socket for the members of a group.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use tokio::net::UnixListener;

/// Opens a socket for its owner and `group` (0660); a socket left there by an earlier run is replaced, so the
/// caller makes sure that there is no other run. Without the group, or the right to give it the socket, it is
/// its owner's alone (0600).
///
/// # Errors
///
/// Also if the group cannot be looked up: that is not the same as that there is none.
pub fn listen(path: &Path, group: &str) -> std::io::Result<UnixListener> {
    let group = nix::unistd::Group::from_name(group)?;
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    let given = match group {
        None => false,
        Some(group) => match nix::unistd::chown(path, None, Some(group.gid)) {
            Ok(()) => true,
            Err(Errno::EPERM) => false,
            Err(error) => return Err(error.into()),
        },
    };
    let mode = if given { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_left_socket_is_replaced_and_a_group_that_is_not_there_opens_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _listener = listen(&path, "socle-no-such-group").unwrap();
        assert_eq!(mode(&path), 0o600);
        let own = nix::unistd::Group::from_gid(nix::unistd::getgid()).unwrap().unwrap();
        let _listener = listen(&path, &own.name).unwrap();
        assert_eq!(mode(&path), 0o660);
        assert!(listen(&directory.path().join("none/a.sock"), &own.name).is_err());
    }
}
