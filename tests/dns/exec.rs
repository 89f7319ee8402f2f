//! A program of the admin's as the provider.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use socle::host::Dns;
use socle::host::dns::ProviderDns;
use socle::model::Domain;

use crate::provider;
use crate::servers::Servers;

#[tokio::test]
async fn it_is_told_by_arguments_and_its_secrets_by_the_environment() {
    let servers = Servers::start(true).await;
    let dns = ProviderDns::new(servers.resolver());
    let directory = tempfile::tempdir().unwrap();
    let (program, told) = (directory.path().join("update"), directory.path().join("told"));
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$@\" >>{told}\nprintf '%s\\n' \"$TOKEN\" >>{told}\n[ \"$3\" = publish ] || {{ echo \"no: $TOKEN\" >&2; exit 7; }}\n",
        told = told.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let ours = provider("exec", &[], &[("TOKEN", "hunter2")], &[program.to_str().unwrap(), "--zone", "$(id); x"]);
    let www: Domain = "www.example.org".parse().unwrap();
    dns.publish(&ours, &www, "proof").await.unwrap();
    let expected = "--zone|$(id); x|publish|www.proofs.example.net|proof|hunter2\n";
    assert_eq!(fs::read_to_string(&told).unwrap(), expected, "no shell, the name after its alias");
    let said = dns.withdraw(&ours, &www, "proof").await.unwrap_err().report().to_string();
    assert!(said.contains("no: ") && !said.contains("hunter2"), "{said}");
    let missing = provider("exec", &[], &[], &["/nonexistent/program"]);
    let said = dns.publish(&missing, &www, "proof").await.unwrap_err().report().to_string();
    assert!(said.contains("/nonexistent/program"), "{said}");
}
