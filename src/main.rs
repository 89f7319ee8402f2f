use std::process::{ExitCode, Termination};

use socle::{cli, host};

fn main() -> ExitCode {
    // Children of ours with less power than we have. They are told apart before anything else happens,
    // because they drop their powers before they read a byte.
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some(host::archive::SUBCOMMAND) => {
            let rest: Vec<String> = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
            host::archive::child_main(&rest)
        }
        Some("internal-nginx-test") => host::nginx::child_main(args),
        Some(host::copies::SUBCOMMAND) => host::copies::child_main(args),
        Some(host::vault::SUBCOMMAND) => host::vault::child_main(),
        _ => cli::main().report(),
    }
}
