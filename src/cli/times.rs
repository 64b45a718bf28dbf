//! Times and sizes as people write them.

use crate::model::time::{DAY, SECOND};
use crate::resolve::clock::Zone;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime};

/// A moment, microseconds since 1970: RFC 3339; `2026-03-02 08:00[:30]` or `2026-03-02` in the zone; `2h`, `3d`, `15m` ago; `today`, `yesterday`, `now`.
pub fn moment(text: &str, now: i64, zone: Zone) -> Result<i64, String> {
    let text = text.trim();
    if let Ok(t) = DateTime::parse_from_rfc3339(text) {
        return Ok(t.timestamp_micros());
    }
    for form in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"] {
        if let Ok(t) = NaiveDateTime::parse_from_str(text, form) {
            return Ok(zone.moment(t));
        }
    }
    let midnight = |d: NaiveDate| zone.moment(d.and_time(NaiveTime::MIN));
    if let Ok(d) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(midnight(d));
    }
    let today = || zone.show(now).map(|t| t.date_naive()).unwrap_or_default();
    match text {
        "now" => return Ok(now),
        "today" => return Ok(midnight(today())),
        "yesterday" => return Ok(midnight(today().pred_opt().unwrap_or_default())),
        _ => {}
    }
    if let Ok(t) = NaiveTime::parse_from_str(text, "%H:%M").or_else(|_| NaiveTime::parse_from_str(text, "%H:%M:%S")) {
        return Ok(zone.moment(today().and_time(t)));
    }
    ago(text).map(|d| now - d).ok_or_else(|| {
        format!("`{text}` is no time: use 2h, 3d, today, yesterday, 2026-03-02, \"2026-03-02 08:00\" or 2026-03-02T08:00:00Z")
    })
}

/// A span of time, microseconds: `90s`, `15m`, `2h`, `3d`, `1w`.
pub fn ago(text: &str) -> Option<i64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let n: i64 = text.get(..at)?.parse().ok()?;
    let unit = match text.get(at..)?.trim() {
        "s" | "sec" => SECOND,
        "m" | "min" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return None,
    };
    n.checked_mul(unit)
}

/// Sizes in bytes: `10K..2M`, `10K..`, `..2M`, or one size.
pub fn sizes(text: &str) -> Result<(u64, u64), String> {
    let one = |t: &str| -> Option<u64> {
        let t = t.trim().to_lowercase();
        let at = t.find(|c: char| !c.is_ascii_digit()).unwrap_or(t.len());
        let n: u64 = t.get(..at)?.parse().ok()?;
        let factor = match t.get(at..)? {
            "" | "b" => 1,
            "k" | "kib" | "kb" => 1 << 10,
            "m" | "mib" | "mb" => 1 << 20,
            "g" | "gib" | "gb" => 1 << 30,
            _ => return None,
        };
        n.checked_mul(factor)
    };
    let read = match text.split_once("..") {
        Some(("", b)) => one(b).map(|b| (0, b)),
        Some((a, "")) => one(a).map(|a| (a, u64::MAX)),
        Some((a, b)) => one(a).zip(one(b)),
        None => one(text).map(|a| (a, a)),
    };
    read.filter(|(a, b)| a <= b).ok_or_else(|| format!("`{text}` is no size: use 10K..2M, 10K.. or ..2M"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
        let zone: Zone = "+01:00".parse().unwrap();
        let now = DateTime::parse_from_rfc3339("2026-03-02T10:00:00+01:00").unwrap().timestamp_micros();
        let at = |t: &str| moment(t, now, zone).map(|m| zone.show(m).unwrap().format("%m-%d %H:%M:%S").to_string());
        for (text, want) in [
            ("2h", "03-02 08:00:00"),
            ("1d", "03-01 10:00:00"),
            ("today", "03-02 00:00:00"),
            ("yesterday", "03-01 00:00:00"),
            ("2026-03-02 08:00", "03-02 08:00:00"),
            ("2026-03-02T07:00:00Z", "03-02 08:00:00"),
            ("2026-02-01", "02-01 00:00:00"),
            ("08:30", "03-02 08:30:00"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(want), "{text}");
        }
        assert!(moment("soon", now, zone).is_err());
        assert!(moment("99999999999999999999d", now, zone).is_err());
    }

    #[test]
    fn sizes_as_people_write_them() {
        assert_eq!(sizes("10K..2M"), Ok((10_240, 2_097_152)));
        assert_eq!(sizes("..1G"), Ok((0, 1 << 30)));
        assert_eq!(sizes("5"), Ok((5, 5)));
        assert!(sizes("2M..1K").is_err() && sizes("x").is_err());
    }
}
