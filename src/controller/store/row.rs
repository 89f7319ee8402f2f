//! From a row of the database to values, and the other way.

use std::str::FromStr;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::StoreError;
use crate::wire::PublicKey;

/// Reads a column by name. What does not parse is an error with the column's name, never a default.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<String, sqlx::Error>;
    fn text_or_null(&self, column: &str) -> Result<Option<String>, sqlx::Error>;
    fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error>;
    fn number_or_null<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error>;
    fn time(&self, column: &str) -> Result<Timestamp, sqlx::Error>;
    fn time_or_null(&self, column: &str) -> Result<Option<Timestamp>, sqlx::Error>;
    fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error>;
    fn parsed_or_null<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error>;
    fn key(&self, column: &str) -> Result<PublicKey, sqlx::Error>;
    fn json_or_null<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<Option<T>, sqlx::Error>;
}

impl Columns for AnyRow {
    fn text(&self, column: &str) -> Result<String, sqlx::Error> {
        self.try_get(column)
    }

    fn text_or_null(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        self.try_get(column)
    }

    fn number<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error> {
        T::try_from(self.try_get(column)?).map_err(|source| unreadable(column, source))
    }

    fn number_or_null<T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error> {
        let number: Option<i64> = self.try_get(column)?;
        number.map(T::try_from).transpose().map_err(|source| unreadable(column, source))
    }

    fn time(&self, column: &str) -> Result<Timestamp, sqlx::Error> {
        Timestamp::from_millisecond(self.try_get(column)?).map_err(|source| unreadable(column, source))
    }

    fn time_or_null(&self, column: &str) -> Result<Option<Timestamp>, sqlx::Error> {
        let time: Option<i64> = self.try_get(column)?;
        time.map(Timestamp::from_millisecond).transpose().map_err(|source| unreadable(column, source))
    }

    fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error> {
        self.text(column)?.parse().map_err(|source| unreadable(column, source))
    }

    fn parsed_or_null<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error> {
        self.text_or_null(column)?.map(|text| text.parse()).transpose().map_err(|source| unreadable(column, source))
    }

    fn key(&self, column: &str) -> Result<PublicKey, sqlx::Error> {
        self.text(column)?.try_into().map_err(|source| unreadable(column, source))
    }

    fn json_or_null<T: serde::de::DeserializeOwned>(&self, column: &str) -> Result<Option<T>, sqlx::Error> {
        let text = self.text_or_null(column)?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|source| unreadable(column, source))
    }
}

fn unreadable(column: &str, source: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(source) }
}

/// A number of ours as the database keeps it.
pub(super) fn stored(what: &'static str, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge { what, value })
}

/// `($1, $2), ($3, $4)`: the place holders of `rows` rows, which both databases number alike.
pub(super) fn values(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * 5);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        text.push_str(&list(row * columns + 1, columns));
        text.push(')');
    }
    text
}

/// `$4, $5, $6`: `count` place holders from number `first`.
pub(super) fn list(first: usize, count: usize) -> String {
    (first..first + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_holders_count_on() {
        assert_eq!(values(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(list(4, 2), "$4, $5");
    }
}
