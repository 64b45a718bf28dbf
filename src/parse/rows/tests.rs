use super::Value;
use super::read::{cuts, split, stamp};
use crate::model::line::RawStamp;
use crate::model::time::Precision;
use crate::parse::{Matcher, Outcome, Parsers};
use proptest::prelude::*;

fn parts(list: &str) -> Vec<String> {
    let value = Value { bytes: list.as_bytes().into(), at: Some(7) };
    let all = split(&value, b';');
    for v in &all {
        let at = v.at.unwrap() - 7;
        assert_eq!(&list.as_bytes()[at..at + v.bytes.len()], &v.bytes[..]);
    }
    all.iter().map(|v| String::from_utf8_lossy(&v.bytes).into_owned()).collect()
}

#[test]
fn separators_within_quotes_and_brackets_are_none() {
    assert_eq!(parts("a@x;b@y"), ["a@x", "b@y"]);
    assert_eq!(parts(r#""a;b"@x;"c\";d"@y"#), [r#""a;b"@x"#, r#""c\";d"@y"#]);
    assert_eq!(parts("[{LED=550 a; b};{MSG=}];[{LED=x}]"), ["[{LED=550 a; b};{MSG=}]", "[{LED=x}]"]);
    assert_eq!(parts(r#"a"@x;b@y"#), [r#"a"@x"#, "b@y"], "a quote without its pair is a character");
    assert_eq!(parts("]]};b"), ["]]}", "b"]);
    assert_eq!(parts(""), [""]);
}

#[test]
fn times() {
    let zoned = |text: &str| match stamp(text.as_bytes()) {
        Some(RawStamp::Zoned { written, micros, offset, precision }) => Some((written, micros, offset, precision)),
        _ => None,
    };
    assert_eq!(zoned("1772438400"), Some((1_772_438_400, 0, 0, Precision::Second)));
    assert_eq!(zoned("1772438400.25"), Some((1_772_438_400, 250_000, 0, Precision::Milli)));
    assert_eq!(zoned("1772438400123"), Some((1_772_438_400, 123_000, 0, Precision::Milli)));
    assert_eq!(zoned("2026-03-02T08:00:00.1234567Z"), Some((1_772_438_400, 123_456, 0, Precision::Micro)));
    assert_eq!(zoned("2026-03-02 08:00:00+0100"), Some((1_772_438_400, 0, 3600, Precision::Second)));
    assert_eq!(zoned("2026/03/02 08:00:00 UTC"), Some((1_772_438_400, 0, 0, Precision::Second)));
    assert!(matches!(stamp(b"2026-03-02 08:00:00"), Some(RawStamp::Local { .. })));
    for none in [
        "",
        "x",
        "12",
        "2026-03-02",
        "2026-03-02T08:00:00Zx",
        "03/02/2026 08:00",
        "2026/03/02 08:00:00 UTCx",
        "177243840x",
        "99999999999999999999",
        "1772438400.2x",
    ] {
        assert!(stamp(none.as_bytes()).is_none(), "{none}");
    }
}

const HEADER: &[u8] = b"type,timeLogged,timeQueued,orig,rcpt,dsnDiag";

#[test]
fn rows_are_of_the_table_whose_header_came_last() {
    let mut m = Matcher::new(Parsers::load(None).unwrap());
    let row = b"d,1772438401,1772438400,a@x.test,b@y.test,ok";
    assert!(matches!(m.line(row), Outcome::NoFrame), "no header yet");
    assert!(matches!(m.line(HEADER), Outcome::Ignored));
    assert!(matches!(m.line(row), Outcome::Rows(..)));
    assert!(matches!(m.line(b"orig,rcpt,type,timeLogged"), Outcome::Unparsed(..)), "the names of other columns are no header");
    assert!(matches!(m.line(b"\xef\xbb\xbftype,timeLogged,rcpt,x"), Outcome::Ignored), "behind a byte order mark");
    assert!(matches!(m.line(row), Outcome::Unparsed(..)), "the columns are others now");
    m.set_table(HEADER);
    assert!(matches!(m.line(row), Outcome::Rows(..)));
    assert!(matches!(m.line(b"Mar  2 08:00:00 mx1 postfix/qmgr[1]: 4AAAAAx1zzz: removed"), Outcome::Event(_)), "syslog in between");
    m.set_table(b"");
    assert!(matches!(m.line(row), Outcome::NoFrame));
}

proptest! {
    #[test]
    fn no_list_panics(list in "[a;\"\\\\\\[\\]{}]{0,40}") {
        for quotes in [true, false] {
            prop_assert!(cuts(list.as_bytes(), b';', quotes).unwrap_or_default().len() <= list.len());
        }
        prop_assert_eq!(parts(&list).join(";"), list);
    }

    #[test]
    fn no_row_panics(row in "[a,;\"\n0-9:@<>#-]{0,80}") {
        let mut m = Matcher::new(Parsers::load(None).unwrap());
        m.set_table(HEADER);
        let _ = m.line(format!("d,1772438401,{row}").as_bytes());
    }
}
