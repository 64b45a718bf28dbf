//! Year and zone of stamps that name none.
//!
//! A yearless stamp gets the year that brings it nearest to the lines before it. The first line is anchored
//! by a reference: a year that was asked for, or the latest moment the source can speak of, which bounds
//! every later line, too. A line far from those before it (a host whose clock is wrong, a line that was
//! relayed late) is dated, but only a second one like it moves the clock there.

use crate::model::line::RawStamp;
use crate::model::time::{Precision, SECOND, civil_seconds};
use chrono::{DateTime, Datelike, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeZone};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
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

/// What the yearless lines of a source are held against.
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

/// Where a clock stands: what a later reading of the same source goes on with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Local seconds of the latest yearless line that was near the one before.
    pub at: Option<i64>,
    /// Year of the first line of the file: what follows is not of a year before, but for lines right around New Year.
    pub year: Option<i32>,
    /// Local seconds of the line before, if it was far from `at`.
    pub doubt: Option<i64>,
    /// Latest moment of any line, seconds since 1970 UTC.
    pub utc: Option<i64>,
}

/// Resolves the stamps of one source, in the order of its lines.
#[derive(Debug, Clone)]
pub struct Clock {
    anchor: Anchor,
    position: Position,
    /// The next yearless line is the first of another file.
    border: bool,
    memo: Option<(Zone, i64, i32)>,
}

const DAY: i64 = 86_400;
/// Lines so near each other, seconds, are of one clock that goes on.
const NEAR: i64 = 31 * DAY;
/// So far, seconds, the first line of a file may lie before the last one of the file before.
const BACK: i64 = 7 * DAY;

impl Clock {
    /// A clock for a source of which nothing was read yet.
    pub fn new(anchor: Anchor) -> Self {
        Clock::resume(anchor, Position::default())
    }

    /// Goes on where an earlier reading of the same source stopped.
    pub fn resume(anchor: Anchor, position: Position) -> Self {
        Clock { anchor, position, border: false, memo: None }
    }

    /// Another bound: for a live source, the time goes on.
    pub fn set_anchor(&mut self, anchor: Anchor) {
        self.anchor = anchor;
    }

    /// The next line is the first of the next file of the series: there may be a gap of months between the two.
    pub fn next_file(&mut self) {
        self.border = true;
    }

    /// What [`Clock::resume`] needs.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Makes a stamp whole. `None` when there is no such date (29 February of a year that has none).
    pub fn resolve(&mut self, raw: RawStamp, zone: Zone) -> Option<Resolved> {
        let (written, micros, precision, offset) = match raw {
            RawStamp::Zoned { written, micros, offset, precision } => (written, micros, precision, offset),
            RawStamp::Local { written, micros, precision } => (written, micros, precision, self.offset(zone, written)),
            RawStamp::Yearless { month, day, second, micros, precision } => {
                let written = self.with_year(u32::from(month), u32::from(day), second)?;
                self.follow(written);
                (written, micros, precision, self.offset(zone, written))
            }
        };
        let utc = written - i64::from(offset);
        self.position.utc = Some(self.position.utc.map_or(utc, |l| l.max(utc)));
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
        let offset = zone.offset(local, self.position.utc);
        // A repeated hour depends on what came before it: do not remember it.
        let plain = zone.offset(local, None) == zone.offset(local, Some(i64::MAX));
        self.memo = plain.then_some((zone, quarter, offset));
        offset
    }

    /// A line near the one before moves the clock; one far away only if the line before was as far.
    fn follow(&mut self, written: i64) {
        if self.border || self.position.year.is_none() {
            self.position.year = DateTime::from_timestamp(written, 0).map(|t| t.year());
        }
        let near = |t: Option<i64>| t.is_some_and(|t| (written - t).abs() <= NEAR);
        let p = &mut self.position;
        if p.at.is_none() || near(p.at) || near(p.doubt) {
            (p.at, p.doubt) = (Some(written), None);
        } else {
            p.doubt = Some(written);
        }
        self.border = false;
    }

    fn with_year(&self, month: u32, day: u32, second: u32) -> Option<i64> {
        let at = |year: i32| civil_seconds(year, month, day, second);
        let limit = match self.anchor {
            Anchor::NotAfter(limit) => limit.saturating_add(DAY),
            Anchor::Year(_) => i64::MAX,
        };
        let Some(previous) = self.position.at else {
            return match self.anchor {
                Anchor::Year(year) => at(year),
                Anchor::NotAfter(_) => latest_year(limit, at),
            };
        };
        let year = DateTime::from_timestamp(previous, 0)?.year();
        if let Some(t) = at(year).filter(|t| (t - previous).abs() <= NEAR && *t <= limit) {
            return Some(t);
        }
        // 29 February may be years away.
        let first = self.position.year.filter(|_| !self.border).and_then(|y| civil_seconds(y, 1, 1, 0)).map_or(i64::MIN, |t| t - NEAR);
        let possible = || (-8..=8).filter_map(|n| at(year + n)).filter(|t| (first..=limit).contains(t));
        let as_before = || possible().find(|t| self.position.doubt.is_some_and(|d| (t - d).abs() <= NEAR));
        let onward = possible().filter(|t| *t >= previous - BACK).min().filter(|_| self.border);
        onward.or_else(as_before).or_else(|| possible().min_by_key(|t| (t - previous).abs())).or_else(|| latest_year(limit, at))
    }
}

/// The latest such date up to `limit`, seconds since 1970.
fn latest_year(limit: i64, at: impl Fn(i32) -> Option<i64>) -> Option<i64> {
    let year = DateTime::from_timestamp(limit, 0)?.year();
    (0..9).filter_map(|back| at(year - back)).find(|t| *t <= limit)
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
        // Nothing is later than the reference.
        assert_eq!(year(&mut c, 9, 10), 2025);
        assert_eq!(year(&mut c, 1, 2), 2026);
        assert_eq!(year(&mut c, 11, 30), 2025);
        assert_eq!(year(&mut c, 1, 4), 2025);
    }

    #[test]
    fn a_line_far_from_the_others_does_not_move_the_clock() {
        for anchor in [Anchor::Year(2026), Anchor::NotAfter(civil_seconds(2026, 12, 1, 0).unwrap())] {
            let mut c = Clock::new(anchor);
            assert_eq!(year(&mut c, 9, 10), 2026);
            year(&mut c, 3, 3);
            for _ in 0..3 {
                assert_eq!(year(&mut c, 9, 10), 2026, "{anchor:?}");
                assert_eq!(year(&mut c, 8, 1), 2026, "{anchor:?}");
                year(&mut c, 2, 1);
            }
            assert_eq!(year(&mut c, 9, 11), 2026, "{anchor:?}");
        }
    }

    #[test]
    fn a_host_whose_clock_is_wrong_moves_nothing_even_in_bursts() {
        let mut c = Clock::new(Anchor::Year(2026));
        for round in 0..40 {
            for _ in 0..round % 4 {
                year(&mut c, 1 + (round % 12) as u8, 3);
            }
            assert_eq!(year(&mut c, 7, 10), 2026, "round {round}");
            assert_eq!(year(&mut c, 7, 10), 2026, "round {round}");
        }
    }

    #[test]
    fn a_silence_of_months_is_followed() {
        let mut c = Clock::new(Anchor::Year(2026));
        assert_eq!(year(&mut c, 9, 8), 2026);
        let seen: Vec<i32> = [2, 2, 3, 5, 5, 10, 10, 12, 12, 1].map(|month| year(&mut c, month, 20)).into();
        assert_eq!(seen, [2027, 2027, 2027, 2027, 2027, 2027, 2027, 2027, 2027, 2028]);
        let mut c = Clock::new(Anchor::NotAfter(civil_seconds(2026, 11, 25, 0).unwrap()));
        assert_eq!([3, 11, 11, 3, 11].map(|month| year(&mut c, month, 2)), [2026; 5]);
        // From a file to the next there may be more.
        let mut c = Clock::new(Anchor::NotAfter(civil_seconds(2026, 3, 1, 0).unwrap()));
        assert_eq!(year(&mut c, 3, 1), 2026);
        c.set_anchor(Anchor::NotAfter(civil_seconds(2027, 3, 1, 0).unwrap()));
        c.next_file();
        assert_eq!(year(&mut c, 1, 20), 2027);
        assert_eq!(year(&mut c, 1, 21), 2027);
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
