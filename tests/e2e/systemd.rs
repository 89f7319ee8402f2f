//! The adapters of all ports against the real thing, on both Debians. This very program is pushed into the
//! machine and runs its ignored test there.

use crate::machine::Machine;

fn inside(image: &str) {
    let machine = Machine::new(image);
    let program = std::env::current_exe().unwrap();
    machine.lab("push", &[program.to_str().unwrap(), "/root/e2e"]);
    machine.lab("localapt", &[]);
    machine.run(&["mkdir", "/btrfs"]).expect(0);
    machine.mount("btrfs", "/btrfs");
    let args = ["/root/e2e", "--ignored", "--exact", "systemd::inside_a_machine", "--nocapture"];
    let done = machine.run(&args);
    assert!(done.stdout.contains("1 passed"), "{}\n{}", done.stdout, done.stderr);
}

#[test]
fn adapters_keep_their_contract_with_systemd_257() {
    inside("web-trixie");
}

#[test]
fn adapters_keep_their_contract_with_systemd_252() {
    inside("web-bookworm");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "changes the system it runs on; run inside a machine by the others"]
async fn inside_a_machine() {
    crate::inside::all().await;
}
