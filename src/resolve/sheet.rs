//! The table that a stream's rows belong to: its header may lie blocks, files or a restart before them.

use super::order::packed;
use serde::{Deserialize, Serialize};

/// What rows of a table (CSV) need to know of the lines before them. Empty for most logs.
///
/// Bounded by whoever fills it: a header has at most 4 KiB, a record in the making at most [`Sheet::MAX_RECORD`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sheet {
    /// The header line; empty: no table.
    #[serde(with = "packed", skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<u8>,
    /// A record that ended in the middle of a quoted cell, its newlines included; empty: none.
    #[serde(with = "packed", skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<u8>,
}

impl Sheet {
    /// The longest record over several lines, bytes. One that is longer is given up: a quote that nobody closed must not
    /// swallow the log.
    pub const MAX_RECORD: usize = 16 * 1024;
}
