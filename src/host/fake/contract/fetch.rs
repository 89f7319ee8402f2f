use std::path::Path;

use crate::host::{Fetch, Fetched, Quiet};
use crate::model::Digest;
use crate::model::document::Source;

/// `good` is an `https` URL with its digest, `gone` one that answers 404.
pub async fn fetch(fetch: &dyn Fetch, good: &Source, gone: &Source, scratch: &Path) {
    let to = scratch.join("fetched");
    let sha256 = good.sha256.expect("its digest is known");
    let bytes = fetch.size(good).await.expect("an answer").expect("a size");
    assert_eq!(fetch.size(gone).await.expect("an answer"), None);

    // What is there from before is replaced; a digest nobody knows yet is told.
    for source in [good.clone(), good.clone(), Source { sha256: None, ..good.clone() }] {
        let fetched = fetch.fetch(&source, &to, bytes, &Quiet).await.expect("is fetched");
        assert_eq!(fetched, Fetched { path: to.clone(), sha256, bytes });
        let read = std::fs::read(&to).expect("it is there");
        assert_eq!((Digest::of(&read), read.len() as u64), (sha256, bytes));
    }
    std::fs::remove_file(&to).unwrap();

    let other = Some(Digest::of("something else"));
    let with = |url: &str, sha256| Source { url: url.to_owned(), sha256 };
    for (source, limit, code) in [
        (with(&good.url, other), bytes, "fetch.digest"),
        (good.clone(), bytes - 1, "fetch.too-big"),
        (gone.clone(), bytes, "fetch.not-found"),
        (with("http://contract.example.org/a.tar.gz", None), bytes, "fetch.insecure"),
        (with("ftp://contract.example.org/a.tar.gz", other), bytes, "fetch.url"),
    ] {
        let error = fetch.fetch(&source, &to, limit, &Quiet).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(!to.exists(), "{code}: nothing is left");
    }
}
