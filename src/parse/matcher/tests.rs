use super::*;
use crate::model::event::Field;

fn matcher() -> Matcher {
    Matcher::new(Parsers::load(None).unwrap())
}

#[test]
fn every_sample_of_the_built_in_files_holds() {
    let wrong = matcher().check_samples();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn value(m: &Matcher, line: &str, field: Field) -> String {
    String::from_utf8_lossy(m.fields.value(line.as_bytes(), field).unwrap_or_default()).into_owned()
}

#[test]
fn instances_are_told_from_daemons() {
    let mut m = matcher();
    for (tag, instance) in [("postfix/smtp", "postfix"), ("postfix-out/smtp", "postfix-out"), ("postfix/relay/smtp", "postfix")] {
        let line = format!("Mar  2 08:00:00 mx1 {tag}[1]: 4A: to=<a@b>, relay=none, delay=1, dsn=4.0.0, status=deferred (x)")
            .replace("4A", "4AAAAA");
        let Outcome::Event(p) = m.line(line.as_bytes()) else { panic!("{line}") };
        assert_eq!((p.instance, p.action), (instance.as_bytes(), Some(Action::Delayed)));
    }
    assert!(matches!(m.line(b"Mar  2 08:00:00 mx1 other/thing[1]: 4AAAAA: removed"), Outcome::Foreign));
}

#[test]
fn the_daemon_lost_by_rfc_5424_is_made_good_by_trying_all() {
    let mut m = matcher();
    let line = "<22>1 2026-11-23T12:05:02.982498+00:00 store postfix 226 - -  EFD3BA0A8B1: client=client.example.test[198.51.100.1]";
    let Outcome::Event(p) = m.line(line.as_bytes()) else { panic!() };
    assert_eq!((p.kind, value(&m, line, Field::QueueId).as_str()), (Kind::Arrival, "EFD3BA0A8B1"));
}

#[test]
fn repeated_messages_are_unpacked() {
    let mut m = matcher();
    let line = b"Mar  2 08:00:00 mx1 postfix/smtpd[1]: message repeated 2 times: [ NOQUEUE: reject: RCPT from a[192.0.2.1]: 554 5.7.1 <x@y>: Relay access denied; from=<a@b> to=<x@y> proto=ESMTP helo=<h>]";
    let Outcome::Event(p) = m.line(line) else { panic!() };
    assert_eq!((p.kind, p.times), (Kind::Reject, 2));
}

#[test]
fn a_fragment_is_told_from_a_pid() {
    assert_eq!(fragment(b"[1/3] x", 0), Some(Fragment { part: 1, of: 3, continues: true, text: 6 }));
    assert_eq!(fragment(b"[1\\3] x", 0).map(|f| f.continues), Some(false));
    for no in ["[12] x", "[4/3] x", "[0/3] x", "[1/3]x", "x", "[1/"] {
        assert_eq!(fragment(no.as_bytes(), 0), None, "{no}");
    }
}
