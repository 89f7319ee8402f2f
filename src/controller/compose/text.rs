//! The text of a document put together from parts of several files, each piece of it with the place it
//! came from. Values are copied as they are written; only headers are new.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::layout::File;

/// A byte of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub path: String,
    pub offset: usize,
}

/// Where each part of a composed text came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Origins {
    paths: Vec<String>,
    /// In the order of the text.
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// Where it begins in the composed text; it ends where the next begins.
    start: usize,
    path: usize,
    offset: usize,
    /// Bytes copied one by one; none: the whole piece stands for `offset`.
    copied: usize,
}

impl Origins {
    /// Where byte `at` of the composed text came from.
    pub fn of(&self, at: usize) -> Option<Place> {
        let index = self.pieces.partition_point(|piece| piece.start <= at).saturating_sub(1);
        let piece = self.pieces.get(index)?;
        let within = at.saturating_sub(piece.start).min(piece.copied);
        Some(Place { path: self.paths[piece.path].clone(), offset: piece.offset + within })
    }

    fn path(&mut self, path: &str) -> usize {
        match self.paths.iter().position(|known| known == path) {
            Some(index) => index,
            None => {
                self.paths.push(path.to_owned());
                self.paths.len() - 1
            }
        }
    }
}

/// A step of a header: a key, and the byte of the file it stands for.
#[derive(Clone)]
pub(super) struct Step<'a> {
    pub written: &'a str,
    pub offset: usize,
}

#[derive(Default)]
pub(super) struct Composer {
    pub text: String,
    pub origins: Origins,
}

impl Composer {
    pub fn comment(&mut self, line: &str) {
        self.text.push_str("# ");
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Words that stand for a byte of a file.
    pub fn stand_in(&mut self, words: &str, file: File<'_>, offset: usize) {
        let path = self.origins.path(file.path);
        self.origins.pieces.push(Piece { start: self.text.len(), path, offset, copied: 0 });
        self.text.push_str(words);
    }

    fn copy(&mut self, file: File<'_>, span: Range<usize>) {
        let path = self.origins.path(file.path);
        let piece = Piece { start: self.text.len(), path, offset: span.start, copied: span.len() };
        self.origins.pieces.push(piece);
        self.text.push_str(&file.text[span]);
    }

    pub fn header(&mut self, file: File<'_>, offset: usize, steps: &[Step<'_>]) {
        self.brackets(file, offset, steps, ["\n[", "]\n"]);
    }

    fn brackets(&mut self, file: File<'_>, offset: usize, steps: &[Step<'_>], [open, close]: [&str; 2]) {
        self.text.push_str(&open[..1]);
        self.stand_in(&open[1..], file, offset);
        for (index, step) in steps.iter().enumerate() {
            if index > 0 {
                self.text.push('.');
            }
            self.stand_in(step.written, file, step.offset);
        }
        self.text.push_str(close);
    }

    /// `key = value`, as they are written.
    pub fn field(&mut self, file: File<'_>, key: &Spanned<DeString<'_>>, value: &Spanned<DeValue<'_>>) {
        self.copy(file, key.span());
        self.text.push_str(" = ");
        self.copy(file, value.span());
        self.text.push('\n');
    }

    /// The fields of a table that are no tables with a header of their own, by name.
    pub fn fields(&mut self, file: File<'_>, table: &DeTable<'_>, skip: &[&str]) {
        for (key, value) in sorted(table, skip).filter(|(_, value)| !has_header(file, value)) {
            self.field(file, key, value);
        }
    }

    /// The other fields, below `steps`.
    pub fn tables(&mut self, file: File<'_>, table: &DeTable<'_>, steps: &[Step<'_>], skip: &[&str]) {
        for (key, value) in sorted(table, skip).filter(|(_, value)| has_header(file, value)) {
            let step = Step { written: &file.text[key.span()], offset: key.span().start };
            let steps = [steps, &[step]].concat();
            match value.get_ref() {
                DeValue::Table(inner) => {
                    // A header that only leads to others says nothing.
                    if inner.is_empty() || inner.values().any(|value| !has_header(file, value)) {
                        self.header(file, value.span().start, &steps);
                    }
                    self.fields(file, inner, &[]);
                    self.tables(file, inner, &steps, &[]);
                }
                DeValue::Array(items) => {
                    for item in items.iter() {
                        self.brackets(file, item.span().start, &steps, ["\n[[", "]]\n"]);
                        if let DeValue::Table(inner) = item.get_ref() {
                            self.fields(file, inner, &[]);
                            self.tables(file, inner, &steps, &[]);
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

/// By key, whatever order they are written in.
fn sorted<'t, 'a>(
    table: &'t DeTable<'a>,
    skip: &[&str],
) -> impl Iterator<Item = (&'t Spanned<DeString<'a>>, &'t Spanned<DeValue<'a>>)> {
    let mut fields: Vec<_> = table.iter().filter(|(key, _)| !skip.contains(&key.get_ref().as_ref())).collect();
    fields.sort_by(|(left, _), (right, _)| left.get_ref().cmp(right.get_ref()));
    fields.into_iter()
}

/// Written with a header or a dotted key, not as a value on its line.
fn has_header(file: File<'_>, value: &Spanned<DeValue<'_>>) -> bool {
    match value.get_ref() {
        DeValue::Table(_) => !file.text[value.span()].starts_with('{'),
        DeValue::Array(items) => {
            items.iter().all(|item| item.get_ref().is_table() && file.text[item.span()].starts_with("[["))
                && !items.is_empty()
        }
        _ => false,
    }
}
