//! What a file's name says about its place among its rotated siblings.

/// A file name taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    /// What all siblings share: the name of the live file (`mail.log`).
    pub stem: Vec<u8>,
    /// When it was rotated, if the name says so: seconds (of a clock nobody names), then a finer mark.
    pub date: Option<(i64, i64)>,
    /// How many rotations ago, if the name says so: a higher number is older.
    pub number: Option<u32>,
    /// Whether the name ends in a compressor's suffix.
    pub compressed: bool,
}

const COMPRESSED: [&[u8]; 8] = [b".gz", b".bz2", b".xz", b".zst", b".zstd", b".bz", b".lzma", b".Z"];
const EXTENSIONS: [&[u8]; 3] = [b".log", b".txt", b".out"];
const LONGEST_DATE: usize = 32;

/// Takes a file name (without folder) apart. Every name has an answer; one without any mark of
/// rotation is its own stem.
pub(super) fn name_of(name: &[u8]) -> Name {
    if let Some(date) = multilog(name) {
        return Name { stem: b"current".to_vec(), date: Some(date), number: None, compressed: false };
    }
    let mut base = name;
    let mut compressed = false;
    for suffix in COMPRESSED {
        if let Some(rest) = base.strip_suffix(suffix).filter(|r| !r.is_empty()) {
            (base, compressed) = (rest, true);
            break;
        }
    }
    // mail.log-2026030108.backup: what logrotate moves out of its way when somebody else made the new file first.
    if let Some((stem, date)) = base.strip_suffix(b".backup").and_then(take_date) {
        return Name { stem: stem.to_vec(), date: Some(date), number: None, compressed };
    }
    // maillog-20260301, mail.log.2026-03-01
    if let Some((stem, date)) = take_date(base) {
        return Name { stem: stem.to_vec(), date: Some(date), number: None, compressed };
    }
    // mail.log.3, mail.log-20260301.1
    let (rest, number) = match take_number(base) {
        Some((rest, n)) => (rest, Some(n)),
        None => (base, None),
    };
    if let Some((stem, date)) = take_date(rest) {
        return Name { stem: stem.to_vec(), date: Some(date), number, compressed };
    }
    // mail-20260301.log, mail-20260301.log.1, mail.3.log
    for extension in EXTENSIONS {
        let Some(inner) = rest.strip_suffix(extension) else {
            continue;
        };
        if let Some((stem, date)) = take_date(inner) {
            return Name { stem: [stem, extension].concat(), date: Some(date), number, compressed };
        }
        if number.is_none()
            && let Some((stem, n)) = take_number(inner)
            && !stem.last().is_some_and(u8::is_ascii_digit)
        {
            return Name { stem: [stem, extension].concat(), date: None, number: Some(n), compressed };
        }
    }
    Name { stem: rest.to_vec(), date: None, number, compressed }
}

/// `@400000005f...2c.s`: a rotated log of multilog or svlogd, whose live file is `current`.
fn multilog(name: &[u8]) -> Option<(i64, i64)> {
    let rest = name.strip_prefix(b"@")?;
    let (stamp, tail) = rest.split_at_checked(24)?;
    if !matches!(tail, b".s" | b".u" | b".t" | b"") {
        return None;
    }
    let (secs, nanos) = stamp.split_at_checked(16)?;
    let hex = |b: &[u8]| u64::from_str_radix(std::str::from_utf8(b).ok()?, 16).ok();
    let secs = hex(secs)?.checked_sub(1 << 62)?;
    Some((i64::try_from(secs).ok()?, i64::try_from(hex(nanos)?).ok()?))
}

/// `mail.log.12` -> (`mail.log`, 12); `.old` counts as 1. Not the last byte of an IPv4 address.
fn take_number(name: &[u8]) -> Option<(&[u8], u32)> {
    if let Some(stem) = name.strip_suffix(b".old").filter(|s| !s.is_empty()) {
        return Some((stem, 1));
    }
    let dot = memchr::memrchr(b'.', name).filter(|&d| d > 0)?;
    let (stem, digits) = (name.get(..dot)?, name.get(dot + 1..)?);
    if digits.len() > 5 || is_ipv4(name) {
        return None;
    }
    Some((stem, digits_of(digits)?.try_into().ok()?))
}

fn is_ipv4(name: &[u8]) -> bool {
    std::str::from_utf8(name).is_ok_and(|s| s.parse::<std::net::Ipv4Addr>().is_ok())
}

fn digits_of(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// A date at the end of a name, after `-`, `.` or `_` (or the whole name): the longest one.
fn take_date(name: &[u8]) -> Option<(&[u8], (i64, i64))> {
    let from = name.len().saturating_sub(LONGEST_DATE);
    for at in from..name.len() {
        let (stem, tail) = name.split_at_checked(at)?;
        if at == 0
            && let Some(date) = parse_date(tail)
        {
            return Some((stem, date));
        }
        if let [b'-' | b'.' | b'_', date @ ..] = tail
            && let Some(date) = parse_date(date)
        {
            return Some((stem, date));
        }
    }
    None
}

/// `20260301`, `2026-03-01`, `202603`, `2026030112`, `20260301T120000`, `2026-03-01_12:00`,
/// `1772438400`, `20260301-1772438400`: seconds, and the epoch behind a date.
fn parse_date(text: &[u8]) -> Option<(i64, i64)> {
    if !text.first()?.is_ascii_digit() || !text.last()?.is_ascii_digit() {
        return None;
    }
    let mut digits: Vec<u8> = Vec::with_capacity(14);
    let mut epoch = None;
    for (i, run) in text.split(|c| b"-_:T.".contains(c)).enumerate() {
        // `.` joins year, month and day only: in `20260301.10` the 10 is a number of rotations.
        let before = (run.as_ptr() as usize).checked_sub(text.as_ptr() as usize + 1).and_then(|p| text.get(p));
        let after_ymd = digits.len() >= 8;
        if epoch.is_some() || !run.iter().all(u8::is_ascii_digit) || (after_ymd && before == Some(&b'.')) {
            return None;
        }
        match (i, run.len()) {
            (0, 4 | 6 | 8 | 10 | 12 | 14) => digits.extend_from_slice(run),
            (0, _) => return None,
            (_, 10) => epoch = Some(digits_of(run)?),
            (_, 2) => digits.extend_from_slice(run),
            (_, 4 | 6) if after_ymd => digits.extend_from_slice(run),
            _ => return None,
        }
    }
    if epoch.is_none() && digits.len() == 10 && !text.iter().any(|c| !c.is_ascii_digit()) {
        if let Some(date) = civil(&digits) {
            return Some((date, 0));
        }
        return digits_of(&digits).filter(|e| (600_000_000..5_000_000_000).contains(e)).map(|e| (e, 0));
    }
    Some((civil(&digits)?, epoch.unwrap_or(0)))
}

/// Seconds since 1970 of `YYYYMM[DD[HH[MM[SS]]]]`, in no zone.
fn civil(digits: &[u8]) -> Option<i64> {
    if !matches!(digits.len(), 6 | 8 | 10 | 12 | 14) {
        return None;
    }
    let part = |from: usize, to: usize, missing: i64| match digits.get(from..to) {
        Some(d) => digits_of(d),
        None => Some(missing),
    };
    let (y, m, d) = (part(0, 4, 0)?, part(4, 6, 0)?, part(6, 8, 1)?);
    let (hh, mm, ss) = (part(8, 10, 0)?, part(10, 12, 0)?, part(12, 14, 0)?);
    if !(1980..2200).contains(&y) || !(1..=12).contains(&m) || !(1..=31).contains(&d) || hh > 23 || mm > 59 || ss > 60 {
        return None;
    }
    // Days from the civil date, years beginning in March.
    let (y, m) = if m <= 2 { (y - 1, m + 9) } else { (y, m - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + d - 1 - 719_468;
    Some(days * 86_400 + hh * 3600 + mm * 60 + ss)
}
