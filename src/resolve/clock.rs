//! Year and zone of stamps that name none.
//!
//! A yearless stamp gets the year that makes a source go forward: the first line is anchored by a
//! reference (a year that was asked for, or the latest moment the source can speak of), every later
//! one follows the line before it. Going back is allowed by a few days only (lines of several hosts
//! are not in strict order), and never over New Year but for the lines right around it.

use crate::model::line::RawStamp;
use crate::model::time::{Precision, SECOND, civil_seconds};
use chrono::{DateTime, Datelike, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use std::str::FromStr;

/// A time zone by name or fixed offset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Zone {
    /// From the zone database, with its summer times.
    Named(Tz),
    /// Seconds east of UTC.
    Fixed(i32),
}

impl FromStr for Zone {
    type Err = String;

    /// `UTC`, `Europe/Berlin`, `+01:00`, `-0530`.
    fn from_str(s: &str) -> Result<Self, String> {
        if let Ok(tz) = s.parse::<Tz>() {
            return Ok(Zone::Named(tz));
        }
        let digits: String = s.chars().skip(1).filter(|c| c.is_ascii_digit()).collect();
        let sign = match s.as_bytes().first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => 0,
        };
        let parsed =
            (digits.len() == 4).then(|| digits.split_at(2)).and_then(|(h, m)| Some((h.parse::<i32>().ok()?, m.parse::<i32>().ok()?)));
        match parsed {
            Some((h, m)) if sign != 0 && h < 24 && m < 60 => Ok(Zone::Fixed(sign * (h * 3600 + m * 60))),
            _ => Err(format!("`{s}` is no time zone: use a name as Europe/Berlin or an offset as +01:00")),
        }
    }
}

impl Zone {
    /// Seconds east of UTC at a local time. Where clocks were set back and the hour is there twice, the one not before `after` (UTC seconds) is meant.
    fn offset(self, local: i64, after: Option<i64>) -> i32 {
        let tz = match self {
            Zone::Fixed(s) => return s,
            Zone::Named(tz) => tz,
        };
        let Some(naive) = DateTime::from_timestamp(local, 0).map(|t| t.naive_utc()) else { return 0 };
        let seconds = |t: DateTime<Tz>| t.offset().fix().local_minus_utc();
        match tz.from_local_datetime(&naive) {
            LocalResult::Single(t) => seconds(t),
            LocalResult::Ambiguous(early, late) => {
                let passed = after.is_some_and(|a| early.timestamp() < a - 60);
                seconds(if passed { late } else { early })
            }
            // Clocks were set forward over this time: nobody's clock showed it, take the offset before.
            LocalResult::None => tz.from_local_datetime(&(naive - chrono::Duration::hours(2))).earliest().map_or(0, seconds),
        }
    }

    /// A moment as this zone's clocks show it.
    pub fn show(self, micros: i64) -> Option<DateTime<FixedOffset>> {
        let utc = DateTime::from_timestamp_micros(micros)?;
        Some(match self {
            Zone::Fixed(s) => utc.with_timezone(&FixedOffset::east_opt(s)?),
            Zone::Named(tz) => utc.with_timezone(&tz).fixed_offset(),
        })
    }

    /// The moment of a local date and time, microseconds since 1970 UTC; the earlier one where it is there twice.
    pub fn moment(self, local: NaiveDateTime) -> i64 {
        let seconds = local.and_utc().timestamp();
        (seconds - i64::from(self.offset(seconds, None))) * SECOND
    }
}

/// What the first yearless line of a source is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The first line is of this year.
    Year(i32),
    /// No line is later than this (UTC seconds), a day's slack apart: the file's time, or now.
    NotAfter(i64),
}

/// A stamp made whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Microseconds since 1970, UTC.
    pub time: i64,
    /// Seconds of the stamp as written, read as UTC.
    pub written: i64,
    /// How fine.
    pub precision: Precision,
}

/// Resolves the stamps of one source, in the order of its lines.
#[derive(Debug, Clone)]
pub struct Clock {
    anchor: Anchor,
    /// Local seconds of the latest yearless line.
    previous: Option<i64>,
    latest_utc: Option<i64>,
    memo: Option<(Zone, i64, i32)>,
}

const DAY: i64 = 86_400;

impl Clock {
    /// A clock for a source of which nothing was read yet.
    pub fn new(anchor: Anchor) -> Self {
        Clock { anchor, previous: None, latest_utc: None, memo: None }
    }

    /// Goes on where an earlier reading of the same source stopped.
    pub fn resume(anchor: Anchor, previous: Option<i64>) -> Self {
        Clock { previous, ..Clock::new(anchor) }
    }

    /// What [`Clock::resume`] needs.
    pub fn position(&self) -> Option<i64> {
        self.previous
    }

    /// Makes a stamp whole. `None` when there is no such date (29 February of a year that has none).
    pub fn resolve(&mut self, raw: RawStamp, zone: Zone) -> Option<Resolved> {
        let (written, micros, precision, offset) = match raw {
            RawStamp::Zoned { written, micros, offset, precision } => (written, micros, precision, offset),
            RawStamp::Local { written, micros, precision } => (written, micros, precision, self.offset(zone, written)),
            RawStamp::Yearless { month, day, second, micros, precision } => {
                let written = self.with_year(u32::from(month), u32::from(day), second)?;
                self.previous = Some(written);
                (written, micros, precision, self.offset(zone, written))
            }
        };
        let utc = written - i64::from(offset);
        self.latest_utc = Some(self.latest_utc.map_or(utc, |l| l.max(utc)));
        Some(Resolved { time: utc * SECOND + i64::from(micros), written, precision })
    }

    /// A line that bears two stamps: the logging host's frame and the program's own. The own one is what a
    /// main log and its syslog copy share, so it is the one "as written"; the finer one is the time.
    pub fn resolve_both(&mut self, outer: RawStamp, inner: Option<RawStamp>, zone: Zone) -> Option<Resolved> {
        let frame = self.resolve(outer, zone)?;
        let Some(inner) = inner.filter(|i| *i != outer) else { return Some(frame) };
        let own = self.resolve(inner, zone)?;
        let zone_known = matches!(inner, RawStamp::Zoned { .. });
        let apart = (own.time - frame.time).rem_euclid(900 * SECOND);
        let near = apart.min(900 * SECOND - apart) <= 5 * SECOND;
        let close = (own.time - frame.time).abs() <= 5 * SECOND;
        let outer_zoned = matches!(outer, RawStamp::Zoned { .. });
        // Without a zone of its own the inner stamp may be a whole zone off: the frame's moment is the better one.
        let take_frame = if zone_known { close && frame.precision > own.precision } else { near && (outer_zoned || close) };
        let best = if take_frame { frame } else { own };
        Some(Resolved { written: own.written, ..best })
    }

    fn offset(&mut self, zone: Zone, local: i64) -> i32 {
        let quarter = local.div_euclid(900);
        if let Some((z, q, o)) = self.memo
            && z == zone
            && q == quarter
        {
            return o;
        }
        let offset = zone.offset(local, self.latest_utc);
        // A repeated hour depends on what came before it: do not remember it.
        let plain = zone.offset(local, None) == zone.offset(local, Some(i64::MAX));
        self.memo = plain.then_some((zone, quarter, offset));
        offset
    }

    fn with_year(&self, month: u32, day: u32, second: u32) -> Option<i64> {
        let at = |year: i32| civil_seconds(year, month, day, second);
        let Some(previous) = self.previous else {
            return match self.anchor {
                Anchor::Year(year) => at(year),
                Anchor::NotAfter(limit) => {
                    let year = DateTime::from_timestamp(limit + DAY, 0)?.year();
                    (0..9).filter_map(|back| at(year - back)).find(|t| *t <= limit + DAY)
                }
            };
        };
        let year = DateTime::from_timestamp(previous, 0)?.year();
        let back_a_little = at(year - 1).filter(|t| previous - t <= 2 * DAY);
        let same = at(year).filter(|t| *t >= previous - 7 * DAY);
        back_a_little.or(same).or_else(|| (1..9).filter_map(|on| at(year + on)).next()).or_else(|| at(year))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yearless(month: u8, day: u8, second: u32) -> RawStamp {
        RawStamp::Yearless { month, day, second, micros: 0, precision: Precision::Second }
    }

    fn utc() -> Zone {
        "UTC".parse().unwrap()
    }

    fn year(clock: &mut Clock, month: u8, day: u8) -> i32 {
        let t = clock.resolve(yearless(month, day, 43_200), utc()).unwrap().time;
        DateTime::from_timestamp_micros(t).unwrap().year()
    }

    #[test]
    fn the_first_line_is_not_after_the_reference_and_the_rest_goes_forward() {
        let reference = civil_seconds(2026, 1, 2, 0).unwrap();
        let mut c = Clock::new(Anchor::NotAfter(reference));
        assert_eq!(year(&mut c, 12, 30), 2025);
        assert_eq!(year(&mut c, 12, 31), 2025);
        assert_eq!(year(&mut c, 1, 1), 2026);
        // A line that comes late over New Year is of the old year, and the next one of the new year again.
        assert_eq!(year(&mut c, 12, 31), 2025);
        assert_eq!(year(&mut c, 1, 1), 2026);
        assert_eq!(year(&mut c, 9, 10), 2026);
        assert_eq!(year(&mut c, 9, 8), 2026);
        assert_eq!(year(&mut c, 2, 1), 2027);
    }

    #[test]
    fn the_29th_of_february_finds_a_year_that_has_it() {
        let mut c = Clock::new(Anchor::NotAfter(civil_seconds(2026, 5, 1, 0).unwrap()));
        assert_eq!(year(&mut c, 2, 29), 2024);
        assert_eq!(Clock::new(Anchor::Year(2026)).resolve(yearless(2, 29, 0), utc()), None);
    }

    #[test]
    fn the_hour_that_is_there_twice() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let mut c = Clock::new(Anchor::Year(2026));
        let mut at = |h: u32, m: u32| c.resolve(yearless(10, 25, h * 3600 + m * 60), berlin).unwrap().time / SECOND;
        let first = at(2, 30);
        assert_eq!(at(2, 50) - first, 20 * 60);
        assert_eq!(at(2, 10) - first, 40 * 60, "the clock was set back: this is the second 02:10");
        assert_eq!(at(3, 0) - first, 90 * 60);
    }

    #[test]
    fn zones_by_name_and_offset() {
        assert_eq!("+0530".parse(), Ok(Zone::Fixed(19_800)));
        assert_eq!("-01:00".parse(), Ok(Zone::Fixed(-3600)));
        assert!("Mars/Olympus".parse::<Zone>().is_err());
        assert!("0100".parse::<Zone>().is_err());
    }

    #[test]
    fn two_stamps_the_finer_one_is_the_time_and_the_own_one_as_written() {
        let outer = RawStamp::Zoned { written: 1000, micros: 123, offset: 0, precision: Precision::Micro };
        let inner = RawStamp::Local { written: 999 + 3600, micros: 0, precision: Precision::Second };
        let r = Clock::new(Anchor::Year(2026)).resolve_both(outer, Some(inner), utc()).unwrap();
        assert_eq!((r.time, r.written, r.precision), (1_000_000_123, 4599, Precision::Micro));
    }
}
