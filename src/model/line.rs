//! What of a line is known before anything is looked up: its stamp as written, and whether it is a part of a longer entry.

use super::time::Precision;

/// A stamp as written, before year and zone are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawStamp {
    /// With a zone: seconds since 1970 of the local time as written, and its offset east of UTC in seconds.
    Zoned {
        /// Local time read as UTC, seconds.
        written: i64,
        /// Decimals, microseconds.
        micros: u32,
        /// Seconds east of UTC.
        offset: i32,
        /// How fine.
        precision: Precision,
    },
    /// With a year but no zone.
    Local {
        /// Local time read as UTC, seconds.
        written: i64,
        /// Decimals, microseconds.
        micros: u32,
        /// How fine.
        precision: Precision,
    },
    /// RFC 3164: neither year nor zone.
    Yearless {
        /// 1 to 12.
        month: u8,
        /// 1 to 31.
        day: u8,
        /// 0 to 86,400 (a leap second counts as the last second).
        second: u32,
        /// Decimals, microseconds.
        micros: u32,
        /// How fine.
        precision: Precision,
    },
}

/// Part of an Exim entry that was too long for one syslog message: `[2/16]`, or `[2\16]` where it was cut at a newline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// From 1.
    pub part: u32,
    /// How many.
    pub of: u32,
    /// The next part belongs to the same line.
    pub continues: bool,
    /// Where in the line the text begins.
    pub text: usize,
}
