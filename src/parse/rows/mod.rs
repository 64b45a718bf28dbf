//! Logs whose lines are rows of a table or JSON objects: by columns and members, not by patterns.
//!
//! [`form`] loads what a parser file says of them, [`csv`] and [`json`] take lines apart, [`read`](mod@read) makes
//! events. A value that stands in the line as such stays there; one that is escaped or lies beyond what is kept of a
//! line is put behind it.

pub mod csv;
pub mod form;
pub mod json;
pub mod read;

use std::borrow::Cow;
use std::ops::Range;

/// A value of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value<'a> {
    /// What it says, unescaped.
    pub bytes: Cow<'a, [u8]>,
    /// Where it stands in the line, if it stands there as such.
    pub at: Option<usize>,
}

impl Value<'_> {
    /// A part of it.
    pub fn part(&self, range: Range<usize>) -> Value<'_> {
        let bytes = self.bytes.get(range.clone()).unwrap_or_default();
        Value { bytes: Cow::Borrowed(bytes), at: self.at.map(|at| at + range.start) }
    }
}

#[cfg(test)]
mod tests;
