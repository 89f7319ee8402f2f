use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((first, rest)) if first == socle::host::archive::SUBCOMMAND => socle::host::archive::child_main(rest),
        _ => ExitCode::FAILURE,
    }
}
