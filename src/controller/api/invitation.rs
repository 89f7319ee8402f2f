//! How a blank server is told its token: a line to paste, or user data for its first boot.

use super::App;

const UNIT: &str = include_str!("../../../packaging/first-boot/socle-first-boot.service");
const USER_DATA: &str = include_str!("../../../packaging/first-boot/user-data.yaml");
/// Where the unit has the script from, until it is told.
const SCRIPT: &str = "https://packages.example.org/socle/bootstrap.sh";

/// `printf` is a part of the shell: the token is in no argument of any program.
pub(super) fn command(app: &App, token: &str) -> String {
    match &app.bootstrap_url {
        Some(url) => {
            let option = |from: &String| format!(" sh --repository {}", shell_word(from));
            let repository = app.repository.as_ref().map(option).unwrap_or_default();
            format!("s=$(curl -fsSL {}) && printf '%s\\n' {token} | sh -c \"$s\"{repository}", shell_word(url))
        }
        None => format!("printf '%s\\n' {token} | socle agent join --token-file -"),
    }
}

/// The unit of the first boot, written by cloud-init with its token. `None`: a blank server has nothing to run.
pub(super) fn user_data(app: &App, token: &str) -> Option<String> {
    let url = app.bootstrap_url.as_ref()?;
    let option = |from: &String| format!("--repository {} ", unit_word(from));
    let repository = app.repository.as_ref().map(option).unwrap_or_default();
    let unit = UNIT.replace(SCRIPT, &unit_word(url)).replace("--token-file", &format!("{repository}--token-file"));
    let lines: Vec<&str> = unit.lines().filter(|line| !line.starts_with('#')).collect();
    // Below the first line, which the template indents.
    let unit = lines.join("\n      ").replace("\n      \n", "\n\n");
    Some(USER_DATA.replace("@UNIT@", &unit).replace("@TOKEN@", token))
}

/// A text of the configuration as one word of a line that a person pastes.
fn shell_word(text: &str) -> String {
    match text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The same as one word of a command line of systemd.
fn unit_word(text: &str) -> String {
    let expanded = text.replace('%', "%%").replace('$', "$$");
    match text.bytes().all(is_plain) {
        true => expanded,
        false => format!("\"{}\"", expanded.replace('\\', r"\\").replace('"', "\\\"")),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/@%+,=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pasted_is_one_word() {
        assert_eq!(
            shell_word("https://packages.example.org/bootstrap.sh"),
            "https://packages.example.org/bootstrap.sh"
        );
        assert_eq!(shell_word("https://x/?a=1&b;$(c)"), "'https://x/?a=1&b;$(c)'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
    }

    #[test]
    fn what_stands_in_the_unit_is_one_word() {
        assert_eq!(unit_word("https://x/bootstrap.sh"), "https://x/bootstrap.sh");
        assert_eq!(unit_word("https://x/a%20b"), "https://x/a%%20b");
        assert_eq!(unit_word("https://x/?a=1&b=$c\"d"), "\"https://x/?a=1&b=$$c\\\"d\"");
        assert!(UNIT.contains(SCRIPT) && USER_DATA.contains("      @UNIT@\n") && USER_DATA.contains("      @TOKEN@\n"));
    }
}
