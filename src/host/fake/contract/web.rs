use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::put;
use crate::host::WebServer;

const SITE: &str = "contract";

/// nginx runs; `root` is where `/etc/nginx` is, without sites of this suite before and after.
pub async fn web(web: &dyn WebServer, root: &Path) {
    let (available, enabled) = (root.join("etc/nginx/sites-available"), root.join("etc/nginx/sites-enabled"));
    let files = || -> BTreeSet<_> { fs::read_dir(&enabled).unwrap().map(|e| e.unwrap().file_name()).collect() };
    let before = files();
    let own = available.join(format!("socle-{SITE}.conf"));
    let link = enabled.join(format!("socle-{SITE}.conf"));
    let foreign = enabled.join("contract-foreign");
    let (good, bad) = (server("contract.example.org", ""), server("contract.example.org", "bogus on;"));
    let code = async |text: Option<&str>| web.test(SITE, text).await.map_err(|error| error.code);

    // A test changes nothing.
    assert_eq!(code(Some(&good)).await, Ok(()));
    assert_eq!(code(None).await, Ok(()));
    let refused = web.test(SITE, Some(&bad)).await.unwrap_err();
    assert_eq!(refused.code, "site.rejected");
    assert!(refused.message.contains(SITE), "{refused}");
    assert_eq!(files(), before);

    // Several at once: all or none.
    let second = server("second.example.org", "");
    let together = async |text: &str| web.test_all(&[(SITE, text), ("contract2", &second)]).await.is_ok();
    assert_eq!((together(&good).await, together(&bad).await), (true, false));
    assert_eq!(files(), before);

    // What is tested takes the place of what is there.
    put(&own, &bad);
    symlink(format!("/etc/nginx/sites-available/socle-{SITE}.conf"), &link).unwrap();
    assert!(web.reload().await.is_err());
    assert_eq!(code(Some(&good)).await, Ok(()));
    assert_eq!(code(None).await, Ok(()));
    put(&own, &good);
    for _ in 0..2 {
        web.reload().await.expect("reloads");
    }

    // Whose fault it is.
    put(&foreign, server("foreign.example.org", "bogus on;"));
    for text in [Some(good.as_str()), Some(bad.as_str()), None] {
        assert_eq!(code(text).await, Err("nginx.broken"), "{text:?}");
    }
    assert!(web.reload().await.is_err());
    put(&foreign, server("contract.example.org", ""));
    let taken = web.test(SITE, Some(&good)).await.unwrap_err();
    assert_eq!(taken.code, "site.name-taken");
    assert!(taken.message.contains("contract.example.org") && taken.message.contains("contract-foreign"), "{taken}");
    assert!(!together(&good).await);
    assert_eq!(code(Some(&server("other.example.org", ""))).await, Ok(()));

    for file in [foreign, link, own] {
        fs::remove_file(file).unwrap();
    }
    web.reload().await.expect("reloads");
    assert_eq!(files(), before);
}

fn server(name: &str, more: &str) -> String {
    format!("server {{\n  listen 80;\n  listen [::]:80;\n  server_name {name};\n  return 204;\n  {more}\n}}\n")
}
