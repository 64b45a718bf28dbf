//! MAIL and RCPT as clients write them, and the marks of RFC 3885.

use crate::smtp::command::*;
use proptest::prelude::*;

const B: &str = "qUqP5cyxm6YcTAhz05Hph5gvu9M";

fn mark(params: &str) -> Result<Option<Mark>, MarkError> {
    let line = format!("MAIL FROM:<a@b.example> {params}");
    Mark::of(&envelope(line.as_bytes()).unwrap().params)
}

#[test]
fn rfc3885_3_1_a_mark_is_a_certifier_of_27_characters_and_a_timeout() {
    let want = Mark { envelope_id: "1@h.example".into(), certifier: B.into(), timeout: Some(86_400) };
    assert_eq!(mark(&format!("MTRK={B}:86400 ENVID=1@h.example")), Ok(Some(want.clone())));
    assert_eq!(mark(&format!("ENVID=1@h.example RET=HDRS mtrk={B}=:86400")), Ok(Some(want)));
    assert_eq!(mark(&format!("MTRK={B} ENVID=1@h.example")).unwrap().unwrap().timeout, None);
    assert_eq!(mark("ENVID=1@h.example"), Ok(None));
}

#[test]
fn rfc3885_3_what_is_no_mark_is_refused_with_its_reason() {
    use MarkError::*;
    let e = "ENVID=1@h.example";
    let long = format!("ENVID={}@{}", "l".repeat(90), "h".repeat(10));
    for (params, want) in [
        (format!("MTRK={B}"), NoEnvid),
        (format!("MTRK={B} ENVID=1"), NotUnique),
        (format!("MTRK={B} ENVID=@h"), NotUnique),
        (format!("MTRK={B} ENVID=1@"), NotUnique),
        (format!("MTRK={B} ENVID"), NotUnique),
        (format!("MTRK={B} {long}"), LongEnvid),
        (format!("MTRK={B} ENVID=a+2@h"), Xtext),
        (format!("MTRK={B} ENVID=a+2b@h"), Xtext),
        (format!("MTRK={B} ENVID=a=b@h"), Xtext),
        (format!("MTRK={B} ENVID=a+00@h"), Xtext),
        (format!("MTRK={B} ENVID=\u{e9}@h"), Xtext),
        (format!("MTRK={B} {e} {e}"), TwoEnvids),
        (format!("MTRK={B} {e} MTRK={B}"), Twice),
        (format!("MTRK {e}"), Empty),
        (format!("MTRK= {e}"), Empty),
        (format!("MTRK=abc:86400 {e}"), Certifier),
        (format!("MTRK={}* {e}", &B[1..]), Certifier),
        (format!("MTRK={B}A {e}"), Certifier),
        (format!("MTRK={B}: {e}"), Timeout),
        (format!("MTRK={B}:0 {e}"), Timeout),
        (format!("MTRK={B}:1234567890 {e}"), Timeout),
        (format!("MTRK={B}:-5 {e}"), Timeout),
        (format!("MTRK={B}:+5 {e}"), Timeout),
        (format!("MTRK={B}:1:1 {e}"), Timeout),
    ] {
        assert_eq!(mark(&params), Err(want), "{params}");
    }
}

#[test]
fn rfc3461_4_4_an_envid_of_100_characters_is_taken_as_it_is() {
    let id = format!("{}+2B@{}", "l".repeat(72), "h".repeat(24));
    assert_eq!(id.len(), 100);
    assert_eq!(mark(&format!("MTRK={B} ENVID={id}")).unwrap().unwrap().envelope_id, id);
}

#[test]
fn parameters_are_behind_the_path_whatever_stands_in_it() {
    for (line, address, params) in [
        ("MAIL FROM:<a@b> X=1 Y", "a@b", vec!["X=1", "Y"]),
        ("mail from: <a@b>\tX", "a@b", vec!["X"]),
        ("RCPT TO:<\"a> MTRK=x\"@b> NOTIFY=NEVER", "\"a> MTRK=x\"@b", vec!["NOTIFY=NEVER"]),
        ("RCPT TO:<\"a\\\"> MTRK=x\"@b>", "\"a\\\"> MTRK=x\"@b", vec![]),
        ("RCPT TO:<@r,@s:c@d>", "@r,@s:c@d", vec![]),
        ("MAIL FROM:<>", "", vec![]),
        ("MAIL FROM:a@b SIZE=1", "a@b", vec!["SIZE=1"]),
    ] {
        let e = envelope(line.as_bytes()).unwrap();
        assert_eq!(e.address, address.as_bytes(), "{line}");
        assert_eq!(e.params, params.iter().map(|p| p.as_bytes()).collect::<Vec<_>>(), "{line}");
    }
    for line in
        ["MAIL FROM:<a@b", "MAIL FROM:", "MAIL FROM", "MAIL TO:<a>", "RCPT FROM:<a>", "MAIL FROM:<a>X=1", "NOOP a:b", "MAIL FROM:<\"a>"]
    {
        assert_eq!(envelope(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn rfc3030_bdat_has_one_form() {
    assert_eq!(bdat(b"BDAT 86"), Some((86, false)));
    assert_eq!(bdat(b"bdat 0 last"), Some((0, true)));
    for line in [
        "BDAT",
        "BDAT 086",
        "BDAT +8",
        "BDAT -8",
        "BDAT 8 LAST x",
        "BDAT 8  LAST",
        "BDAT\t8",
        "BDAT 8 LASTS",
        "BDAT 0x8",
        "BDAT 1234567890123456789",
    ] {
        assert_eq!(bdat(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn rfc3885_3_1_a_timeout_that_is_used_up_ends_the_mark() {
    let m = Mark { envelope_id: "1@h".into(), certifier: B.into(), timeout: Some(10) };
    assert_eq!(m.to_param(3).unwrap(), format!("MTRK={B}:7"));
    assert_eq!(m.to_param(9).unwrap(), format!("MTRK={B}:1"));
    assert_eq!(m.to_param(10), None);
    assert_eq!(m.to_param(u64::MAX), None);
    assert_eq!(Mark { timeout: None, ..m }.to_param(99).unwrap(), format!("MTRK={B}"));
}

#[test]
fn the_mark_alone_is_taken_off() {
    let line = format!("MAIL FROM:<\"a MTRK=x\"@b>  SIZE=5 MTRK={B}:9 ENVID=1@h RET=HDRS");
    let e = envelope(line.as_bytes()).unwrap();
    assert_eq!(remarked(&e, None), b"MAIL FROM:<\"a MTRK=x\"@b> SIZE=5 ENVID=1@h RET=HDRS");
    assert!(remarked(&e, Some("MTRK=y")).ends_with(b"RET=HDRS MTRK=y"));
}

proptest! {
    #[test]
    fn xtext_comes_back(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        prop_assert_eq!(from_xtext(to_xtext(&bytes).as_bytes()), Some(bytes));
    }

    #[test]
    fn any_line_is_read_or_not(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (verb(&line), bdat(&line));
        if let Some(e) = envelope(&line) {
            let _ = Mark::of(&e.params);
            prop_assert!(remarked(&e, None).starts_with(e.head));
        }
    }
}
