//! Instants and their precision, and the civil-date arithmetic that log stamps need.
//!
//! An instant is microseconds since 1970-01-01 UTC. Nothing here reads a clock or a zone:
//! both are handed in by the caller (config, command line), so that parsing is repeatable.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike, Utc};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY: i64 = 86_400 * SECOND;

/// How fine a stamp was written. Of two copies of one event the finer stamp is kept (R1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Precision {
    /// Whole seconds (RFC 3164, Exim's default).
    Second = 0,
    /// Three decimals.
    Milli = 1,
    /// Six decimals (RFC 3339 of rsyslog, RFC 5424).
    Micro = 2,
}

impl Precision {
    /// The precision that a number of decimals stands for.
    pub fn from_decimals(n: usize) -> Self {
        match n {
            0 => Precision::Second,
            1..=3 => Precision::Milli,
            _ => Precision::Micro,
        }
    }

    pub(crate) fn from_u8(n: u8) -> Self {
        match n {
            0 => Precision::Second,
            1 => Precision::Milli,
            _ => Precision::Micro,
        }
    }
}

/// RFC 3339 in UTC, with as many decimals as the stamp was written with.
pub fn rfc3339(micros: i64, precision: Precision) -> String {
    let form = match precision {
        Precision::Second => SecondsFormat::Secs,
        Precision::Milli => SecondsFormat::Millis,
        Precision::Micro => SecondsFormat::Micros,
    };
    match DateTime::<Utc>::from_timestamp_micros(micros) {
        Some(t) => t.to_rfc3339_opts(form, true),
        None => "1970-01-01T00:00:00Z".into(),
    }
}

/// Seconds since 1970 of a civil date and time, read as UTC. `None` when there is no such date.
pub fn civil_seconds(year: i32, month: u32, day: u32, second_of_day: u32) -> Option<i64> {
    let days = NaiveDate::from_ymd_opt(year, month, day)?.num_days_from_ce() as i64 - 719_163;
    Some(days * 86_400 + i64::from(second_of_day))
}

/// What is left of a second "as written" without its year: month, day and second of the day in one number.
///
/// An event's identity uses it, so that a copy with a year and one without agree (R1).
pub fn yearless(written_seconds: i64) -> u32 {
    match DateTime::<Utc>::from_timestamp(written_seconds, 0) {
        Some(t) => (t.month() * 32 + t.day()) * 86_400 + t.num_seconds_from_midnight(),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn civil_dates_round_trip_and_bad_ones_are_refused() {
        let s = civil_seconds(2026, 3, 2, 8 * 3600).unwrap();
        assert_eq!(rfc3339(s * SECOND, Precision::Second), "2026-03-02T08:00:00Z");
        assert_eq!(civil_seconds(2026, 2, 29, 0), None);
        assert!(civil_seconds(2024, 2, 29, 0).is_some());
    }

    #[test]
    fn the_year_does_not_count_in_an_identity() {
        let a = civil_seconds(2025, 12, 31, 86_399).unwrap();
        let b = civil_seconds(2026, 12, 31, 86_399).unwrap();
        assert_eq!(yearless(a), yearless(b));
        assert_ne!(yearless(a), yearless(a + 1));
    }
}
