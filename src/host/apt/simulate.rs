//! What apt would do, from `apt-get --simulate` and `--print-uris`. The lines are meant for scripts
//! (apt-get(8)): `Inst`, `Conf`, `Remv`, `Purg`.

use std::collections::BTreeSet;

/// Packages that would go.
pub fn removals(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("Remv ").or_else(|| line.strip_prefix("Purg ")))
        .filter_map(|rest| rest.split_whitespace().next())
        // With its architecture when it is a foreign one.
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

/// Bytes that would be downloaded: lines `'URI' file size hash`.
pub fn download_size(text: &str) -> u64 {
    text.lines()
        .filter(|line| line.starts_with('\''))
        .filter_map(|line| line.rsplit_once("' ").map(|(_, rest)| rest))
        .filter_map(|rest| rest.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_removals() {
        let text = "NOTE: This is only a simulation!\nThe following packages will be REMOVED:\n  apache2\nRemv apache2 [2.4]\nPurg old:i386 [1]\nInst nginx (1.26 Debian:13/stable [amd64])\nConf nginx (1.26)\n";
        assert_eq!(removals(text).into_iter().collect::<Vec<_>>(), ["apache2", "old"]);
        assert!(removals("Inst nginx (1)\n").is_empty());
    }

    #[test]
    fn adds_sizes() {
        let text = "Reading package lists...\n'http://mirror.example.org/debian/pool/a_1%3a1_amd64.deb' a_1%3a1_amd64.deb 1000 SHA256:00\n'http://x/b.deb' b.deb 234 MD5Sum:00\n";
        assert_eq!(download_size(text), 1234);
        assert_eq!(download_size(""), 0);
    }
}
