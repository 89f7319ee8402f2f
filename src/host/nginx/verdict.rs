//! What `nginx -T` said.

use std::collections::BTreeSet;

use crate::host::process::printable;

pub(super) struct Answer {
    pub good: bool,
    /// The configuration it read, file by file; empty if it is bad.
    files: Vec<(String, String)>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Answer {
    pub fn read(good: bool, stdout: &[u8], stderr: &[u8]) -> Self {
        let said = printable(stderr);
        let of = |level: &str| said.lines().filter_map(|line| message(line, level)).collect::<Vec<_>>();
        let mut errors: Vec<String> =
            ["[emerg]", "[alert]", "[crit]", "[error]"].iter().flat_map(|level| of(level)).collect();
        // The same message goes to the terminal and to an error log that is the terminal.
        errors.dedup();
        if errors.is_empty() {
            errors.extend(said.lines().map(str::to_owned));
        }
        Self { good, files: files(&String::from_utf8_lossy(stdout)), errors, warnings: of("[warn]") }
    }

    /// Its first error; nginx stops at it.
    pub fn error(&self) -> String {
        self.errors.first().cloned().unwrap_or_else(|| "no reason given".to_owned())
    }

    /// The line of our own text the error points at.
    pub fn line_in(&self, file: &str, text: &str) -> Option<String> {
        let error = self.error();
        let number = error.rsplit_once(&format!("/{file}:"))?.1;
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let line = text.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)?.trim();
        Some(line.chars().take(200).collect())
    }

    /// Whether this file is part of the configuration.
    pub fn reads(&self, file: &str) -> bool {
        self.files.iter().any(|(name, _)| name == file)
    }

    /// A name our `text` has that nginx warns about and a file not ours (`ours`: how the paths of ours
    /// begin) has too: nginx would serve one of the two and ignore the other. A name that is only
    /// between sites of ours is on its way from one to the other within this pass.
    pub fn name_taken(&self, ours: &str, text: &str) -> Option<(String, String)> {
        let wanted = server_names(text);
        self.warnings.iter().filter_map(|warning| conflicting(warning)).find_map(|name| {
            wanted.contains(name).then_some(())?;
            let (file, _) =
                self.files.iter().find(|(file, text)| !file.starts_with(ours) && server_names(text).contains(name))?;
            Some((name.to_owned(), file.clone()))
        })
    }
}

/// `2026/11/23 06:09:49 [emerg] 317#317: unknown directive …` or `nginx: [emerg] unknown …`.
fn message(line: &str, level: &str) -> Option<String> {
    let rest = line.split_once(level)?.1.trim_start();
    let text = match rest.split_once(": ") {
        Some((process, text)) if process.bytes().all(|b| b.is_ascii_digit() || b == b'#') => text,
        _ => rest,
    };
    Some(text.trim().to_owned())
}

/// `conflicting server name "a.test" on 0.0.0.0:80, ignored`
fn conflicting(warning: &str) -> Option<&str> {
    warning.strip_prefix("conflicting server name \"")?.split('"').next()
}

/// The sections of a `nginx -T`: `# configuration file /etc/nginx/nginx.conf:`.
fn files(dump: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in dump.lines() {
        let name = line.strip_prefix("# configuration file ").and_then(|line| line.strip_suffix(':'));
        match (name, files.last_mut()) {
            (Some(name), _) => files.push((name.to_owned(), String::new())),
            (None, Some((_, text))) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, None) => {}
        }
    }
    files
}

/// The names in all `server_name` directives of a text. Only used to say who else has a name nginx
/// complained about, so a plain reading of words is enough.
pub(in crate::host) fn server_names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        for word in line.replace(['{', '}'], " ").replace(';', " ; ").split_whitespace() {
            match word {
                ";" => inside = false,
                "server_name" => inside = true,
                name if inside => {
                    names.insert(name.trim_matches(['"', '\'']).to_ascii_lowercase());
                }
                _ => {}
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "# configuration file /etc/nginx/nginx.conf:\nhttp {}\n\n# configuration file /etc/nginx/sites-enabled/old:\n\
        server { listen 80; server_name a.test\n www.a.test; }\n# configuration file /etc/nginx/sites-enabled/socle-b.conf:\nserver { server_name b.test; }\n";

    #[test]
    fn errors_are_read_in_both_forms() {
        for said in [
            "2026/11/23 06:09:49 [emerg] 317#317: unknown directive \"bogus\" in /etc/nginx/sites-enabled/socle-blog.conf:2\nnginx: configuration file /etc/nginx/nginx.conf test failed\n",
            "nginx: [emerg] unknown directive \"bogus\" in /etc/nginx/sites-enabled/socle-blog.conf:2\n",
        ] {
            let answer = Answer::read(false, b"", said.as_bytes());
            assert_eq!(answer.error(), "unknown directive \"bogus\" in /etc/nginx/sites-enabled/socle-blog.conf:2");
            let text = "server {\n  bogus on;\n}\n";
            assert_eq!(answer.line_in("socle-blog.conf", text).unwrap(), "bogus on;");
            assert_eq!(answer.line_in("socle-other.conf", text), None);
        }
    }

    #[test]
    fn a_name_somebody_else_has_is_found() {
        let warning = |name: &str| {
            format!("2026/11/23 06:09:49 [warn] 3#3: conflicting server name \"{name}\" on 0.0.0.0:80, ignored\n")
        };
        let taken = |name: &str, text: &str| {
            Answer::read(true, DUMP.as_bytes(), warning(name).as_bytes())
                .name_taken("/etc/nginx/sites-enabled/socle-", text)
        };
        let found = taken("www.a.test", "server { server_name blog.test www.a.test; }").unwrap();
        assert_eq!(found, ("www.a.test".to_owned(), "/etc/nginx/sites-enabled/old".to_owned()));
        // Between others, or between two of ours.
        assert_eq!(taken("a.test", "server { server_name blog.test; }"), None);
        assert_eq!(taken("b.test", "server { server_name b.test; }"), None);
        let answer = Answer::read(true, DUMP.as_bytes(), b"");
        assert!(
            answer.reads("/etc/nginx/sites-enabled/old") && !answer.reads("/etc/nginx/sites-enabled/socle-blog.conf")
        );
    }
}
