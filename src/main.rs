use std::process::ExitCode;

use socle::cli;

fn main() -> ExitCode {
    // Children of ours with less power than we have. They are told apart before anything else happens,
    // because they drop their powers before they read a byte.
    let mut args = std::env::args_os();
    match args.nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("internal-unpack") => return socle::host::archive::child_main(args),
        Some("internal-nginx-test") => return socle::host::nginx::child_main(args),
        _ => {}
    }
    std::process::Termination::report(cli::main())
}
