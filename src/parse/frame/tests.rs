use super::*;
use proptest::prelude::*;

fn parts(line: &str) -> Option<(String, String, String)> {
    let f = parse(line.as_bytes())?;
    let s = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Some((s(f.host), s(f.program), s(&line.as_bytes()[f.message..])))
}

fn triple(a: &str, b: &str, c: &str) -> Option<(String, String, String)> {
    Some((a.into(), b.into(), c.into()))
}

#[test]
fn the_usual_frames() {
    for line in [
        "Mar  2 08:00:00 mx1 postfix/smtpd[12]: connect from x",
        "Mar 2 08:00:00 mx1 postfix/smtpd[12]: connect from x",
        "<22>Mar  2 08:00:00 mx1 postfix/smtpd[12]: connect from x",
        "Mar  2 2026 08:00:00 mx1 postfix/smtpd[12]: connect from x",
        "2026-03-02T08:00:00.123456+00:00 mx1 postfix/smtpd[12]: connect from x",
        "2026-03-02T08:00:00Z mx1 postfix/smtpd: connect from x",
        "<22>1 2026-03-02T08:00:00.123456+01:00 mx1 postfix/smtpd 12 - - connect from x",
        "1 2026-03-02T08:00:00.123456+01:00 mx1 postfix/smtpd 12 - [a b=\"]\\\"x\"][c d=\"e\"] \u{feff}connect from x",
    ] {
        assert_eq!(parts(line), triple("mx1", "postfix/smtpd", "connect from x"), "{line}");
    }
    assert_eq!(parts("Mar  2 08:00:00 192.0.2.1 exim[1]: x"), triple("192.0.2.1", "exim", "x"));
    assert_eq!(parts("Mar  2 08:00:00 2001:db8:: exim[1]: x"), triple("2001:db8::", "exim", "x"));
}

#[test]
fn lines_of_a_programs_own_file_have_no_host() {
    assert_eq!(parts("2026-11-23 11:48:56 1xVSXY-00001e-1K Completed"), triple("", "", "1xVSXY-00001e-1K Completed"));
    assert_eq!(parts("2026-11-23 11:48:56.123 +0100 1xVSXY-00001e-1K Completed"), triple("", "", "1xVSXY-00001e-1K Completed"));
    assert_eq!(parts("Nov 23 12:05:02 lmtp(223): Info: x"), triple("", "", "lmtp(223): Info: x"));
    assert_eq!(parts("Nov 23 12:05:02 lmtp(223, bob): Info: x"), triple("", "", "lmtp(223, bob): Info: x"));
}

#[test]
fn weekdays_and_levels_are_no_hosts() {
    assert_eq!(parts("Mon Mar  2 08:00:00 2026 Info: Start MID 6 ICID 5"), triple("", "", "Info: Start MID 6 ICID 5"));
    assert_eq!(parts("2026-03-02T08:00:00Z INFO Queued (queue.x) a = 1"), triple("", "", "INFO Queued (queue.x) a = 1"));
    assert_eq!(parts("2026-03-02 08:00:00,030 INFO  [LmtpServer-1] x"), triple("", "", "INFO  [LmtpServer-1] x"));
    assert_eq!(parts("Mon Mar  2 08:00:00 Info: x"), None);
}

#[test]
fn no_frame() {
    for line in [
        "",
        "x",
        "Foo  2 08:00:00 a b: c",
        "Mar 32 25:00:00 a b: c",
        "2026-13-01T00:00:00Z a b: c",
        "Mar  2 08:00",
        "<999999>x",
        "{\"a\":1}",
    ] {
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn zones_and_decimals() {
    let f = parse(b"2026-03-02T08:00:00.5-02:30 h p: m").unwrap();
    let written = civil_seconds(2026, 3, 2, 8 * 3600).unwrap();
    assert_eq!(f.stamp, RawStamp::Zoned { written, micros: 500_000, offset: -9000, precision: Precision::Milli });
}

#[test]
fn repetitions_are_unpacked() {
    let m = b"message repeated 3 times: [ 4Ab: removed]";
    let (n, range) = repeated(m).unwrap();
    assert_eq!((n, &m[range]), (3, &b"4Ab: removed"[..]));
    assert_eq!(repeated(b"message repeated x times: [ a]"), None);
    assert_eq!(repeated(b"message repeated 0 times: [ a]"), None);
}

proptest! {
    #[test]
    fn never_panics(line in proptest::collection::vec(any::<u8>(), 0..120)) {
        if let Some(f) = parse(&line) { prop_assert!(f.message <= line.len()); }
        let _ = (repeated(&line), inner_stamp(&line));
    }

    #[test]
    fn a_stamp_before_noise_never_panics(tail in "[ -~]{0,60}") {
        for stamp in ["Mar  2 08:00:00 ", "2026-03-02T08:00:00Z ", "<1>1 2026-03-02T08:00:00Z "] {
            let _ = parse(format!("{stamp}{tail}").as_bytes());
        }
    }
}

#[test]
fn multilogs_stamp_and_qmails_own() {
    let line = b"@400000003e382910351ebf4c new msg 706430";
    let f = parse(line).unwrap();
    assert_eq!((f.host, f.program, &line[f.message..]), (&b""[..], &b""[..], &b"new msg 706430"[..]));
    // 2003-01-29 19:18:30.891207500 UTC
    assert_eq!(f.stamp, RawStamp::Zoned { written: 1_043_867_910, micros: 891_207, offset: 0, precision: Precision::Micro });
    let f = parse(b"1041414141.123456 new msg 1").unwrap();
    assert_eq!(
        (f.stamp, f.message),
        (RawStamp::Zoned { written: 1_041_414_141, micros: 123_456, offset: 0, precision: Precision::Micro }, 18)
    );
    for no in [
        "@400000003e382910351ebf4",
        "@400000003e382910351ebf4g x",
        "@ffffffffffffffff00000000 x",
        "@0000000000000000ffffffff x",
        "@400000003e38291035",
        "123.5 x",
    ] {
        assert_eq!(parse(no.as_bytes()), None, "{no}");
    }
    assert_eq!(inner_stamp(b"1041414141.123456 new msg 1").map(|(_, at)| at), Some(18));
    assert_eq!(inner_stamp(b"1041414141.123456+rest"), None);
}

#[test]
fn mailmans_year_stands_behind_the_clock() {
    let line = b"Mar 02 08:00:00 2024 (4711) <x@y> post";
    let f = parse(line).unwrap();
    assert_eq!((f.host, f.pid, &line[f.message..]), (&b""[..], &b"4711"[..], &b"<x@y> post"[..]));
    assert_eq!(f.stamp, RawStamp::Local { written: 1_709_366_400, micros: 0, precision: Precision::Second });
    // A host called by a number, and a message in brackets, are none of it.
    let f = parse(b"Mar 02 08:00:00 2024 (x) y").unwrap();
    assert_eq!(f.host, b"2024");
}
