use std::fs;
use std::path::Path;

use super::{put, put_below};
use crate::host::{Snapshots, Taken};

/// `whole` is an empty directory that is taken in a moment, `small` an empty one that may not be; nothing stands at
/// `place` yet.
pub async fn snapshots(port: &dyn Snapshots, whole: &Path, small: &Path, place: &Path) {
    assert!(port.can(&[whole.to_owned()]));
    assert!(!port.can(&[whole.to_owned(), whole.with_extension("gone")]), "all of them");
    assert!(!port.can(&[]));
    put_below(&whole.join("deep/file"), "then");
    put(&small.join("file"), "then");
    let all = [
        Taken { of: whole.to_owned(), at: place.join("0-whole") },
        Taken { of: small.to_owned(), at: place.join("1-small") },
    ];
    port.take(&all).await.expect("it is taken");
    put(&whole.join("deep/file"), "now");
    put(&whole.join("more"), "now");
    fs::remove_file(small.join("file")).expect("the scratch is writable");
    for taken in ["0-whole/deep/file", "1-small/file"] {
        assert_eq!(fs::read_to_string(place.join(taken)).expect("it is there"), "then", "{taken}");
    }
    assert!(!place.join("0-whole/more").exists());
    assert!(port.take(&all).await.is_err(), "something stands there");
    let gone = [Taken { of: whole.with_extension("gone"), at: place.join("2-gone") }];
    assert!(port.take(&gone).await.is_err(), "there is nothing to take");
    port.remove(place).await.expect("it is removed");
    assert!(!place.exists());
    port.remove(place).await.expect("that there is nothing is fine");
    assert_eq!(fs::read_to_string(whole.join("deep/file")).expect("it stays"), "now");
}
