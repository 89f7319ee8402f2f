//! Versions as their authors number them, and ranges of them.

use std::cmp::Ordering;
use std::fmt;

use serde::Deserialize;

/// How an application numbers its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `6.8.7`: one to four numbers.
    Numeric,
    /// `2022-07-31a`: a day, and a letter for each correction.
    Dated,
    /// Whatever the operator calls it; nothing is older than anything.
    Any,
}

impl Scheme {
    pub fn accepts(self, version: &str) -> bool {
        let digits = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
        match self {
            Scheme::Numeric => numbers(version).is_some_and(|numbers| numbers.len() <= 4),
            Scheme::Dated => {
                let day = version.strip_suffix(|c: char| c.is_ascii_lowercase()).unwrap_or(version);
                let parts: Vec<_> = day.split('-').collect();
                matches!(parts[..], [y, m, d] if digits(y, 4) && digits(m, 2) && digits(d, 2))
            }
            Scheme::Any => true,
        }
    }

    /// None where the scheme knows no order.
    pub fn compare(self, left: &str, right: &str) -> Option<Ordering> {
        match self {
            Scheme::Numeric => Some(compare_numbers(&numbers(left)?, &numbers(right)?)),
            Scheme::Dated => (self.accepts(left) && self.accepts(right)).then(|| left.cmp(right)),
            Scheme::Any => None,
        }
    }

    pub fn example(self) -> &'static str {
        match self {
            Scheme::Numeric => "6.8.7",
            Scheme::Dated => "2022-07-31a",
            Scheme::Any => "1",
        }
    }
}

fn numbers(text: &str) -> Option<Vec<u64>> {
    text.split('.')
        .map(|part| part.parse().ok().filter(|_| part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit())))
        .collect()
}

/// `6.9` and `6.9.0` are the same version.
fn compare_numbers(left: &[u64], right: &[u64]) -> Ordering {
    let at = |numbers: &[u64], i: usize| numbers.get(i).copied().unwrap_or(0);
    (0..left.len().max(right.len()))
        .map(|i| at(left, i).cmp(&at(right, i)))
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// `>=7.4,<8.5`: numeric versions that satisfy all of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Range {
    text: String,
    bounds: Vec<(Bound, Vec<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    AtLeast,
    Below,
}

impl Range {
    /// `false` for what is not a numeric version.
    pub fn contains(&self, version: &str) -> bool {
        numbers(version).is_some_and(|version| {
            self.bounds.iter().all(|(bound, limit)| match bound {
                Bound::AtLeast => compare_numbers(&version, limit).is_ge(),
                Bound::Below => compare_numbers(&version, limit).is_lt(),
            })
        })
    }
}

impl TryFrom<String> for Range {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bounds = text
            .split(',')
            .map(|part| {
                let part = part.trim();
                let (bound, version) = match (part.strip_prefix(">="), part.strip_prefix('<')) {
                    (Some(version), _) => (Bound::AtLeast, version),
                    (None, Some(version)) => (Bound::Below, version),
                    (None, None) => return None,
                };
                Some((bound, numbers(version)?))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| format!("`{text}` is not a range like `>=7.4,<8.5`"))?;
        Ok(Self { text, bounds })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_accept_their_own() {
        for good in ["6", "6.1", "6.8.7", "1.43.9.1"] {
            assert!(Scheme::Numeric.accepts(good), "{good}");
        }
        for bad in ["", "6.", "6.x", "6.8-RC1", "1.2.3.4.5", "6..1", "+6", "latest", "9999999999"] {
            assert!(!Scheme::Numeric.accepts(bad), "{bad}");
        }
        assert!(Scheme::Dated.accepts("2022-07-31") && Scheme::Dated.accepts("2022-07-31a"));
        for bad in ["2022-7-31", "20220731", "2022-07-31ab", "stable"] {
            assert!(!Scheme::Dated.accepts(bad), "{bad}");
        }
    }

    #[test]
    fn order_is_by_number_and_by_day() {
        assert_eq!(Scheme::Numeric.compare("6.10", "6.9.9"), Some(Ordering::Greater));
        assert_eq!(Scheme::Numeric.compare("6.9", "6.9.0"), Some(Ordering::Equal));
        assert_eq!(Scheme::Dated.compare("2022-07-31", "2022-07-31a"), Some(Ordering::Less));
        assert_eq!(Scheme::Any.compare("1", "2"), None);
    }

    #[test]
    fn ranges() {
        let range = Range::try_from(">=7.4,<8.5".to_owned()).unwrap();
        assert!(range.contains("7.4") && range.contains("8.4") && range.contains("8.4.11"));
        assert!(!range.contains("7.3") && !range.contains("8.5") && !range.contains("x"));
        for bad in ["", "8", ">8", "=8", ">=8;<9", ">=x"] {
            assert!(Range::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
