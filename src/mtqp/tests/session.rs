//! The dialogue, as tables of what goes in and what comes out.

use crate::mtqp::session::*;
use proptest::prelude::*;

fn rules() -> Rules {
    Rules { starttls: StartTls::Offered, require_tls: RequireTls::Never, out_of_service: None, max_commands: 100_000, max_bad_commands: 20 }
}

/// What the session says to `input`, fed in chunks; steps that are the caller's are shown in braces.
fn talk(rules: &Rules, transport: Transport, input: &[u8], chunk: usize) -> String {
    let mut s = Session::new(rules, transport);
    let mut out = String::new();
    let mut show = |bytes: &[u8]| out.push_str(&String::from_utf8_lossy(bytes));
    for piece in input.chunks(chunk) {
        s.feed(piece);
        while let Some(step) = s.next_step() {
            match step {
                Step::Reply(b) => show(&b),
                Step::Close(b) => {
                    show(&b);
                    show(b"{close}");
                }
                Step::Track(c) => show(format!("{{track {} {}}}\r\n", c.envelope_id, c.secret.to_base64()).as_bytes()),
                Step::StartTls(name) => {
                    show(format!("{{tls {name}}}\r\n").as_bytes());
                    return out;
                }
            }
        }
    }
    out
}

fn plain(input: &str) -> String {
    talk(&rules(), Transport::Plain, input.as_bytes(), 4096)
}

fn over_tls(input: &str) -> String {
    talk(&rules(), Transport::Tls { secure: true }, input.as_bytes(), 4096)
}

fn greeting(rules: &Rules, transport: Transport) -> String {
    String::from_utf8(Session::new(rules, transport).greeting()).unwrap()
}

#[test]
fn rfc3887_3_the_greeting_says_mtqp_and_lists_options() {
    assert_eq!(greeting(&rules(), Transport::Plain), "+OK+/MTQP MTQP server ready\r\nSTARTTLS\r\n.\r\n");
    let none = Rules { starttls: StartTls::Unsupported, ..rules() };
    assert_eq!(greeting(&none, Transport::Plain), "+OK/MTQP MTQP server ready\r\n");
    let required = Rules { require_tls: RequireTls::Domains(vec!["example.com".into()]), ..rules() };
    assert_eq!(greeting(&required, Transport::Plain), "+OK+/MTQP MTQP server ready\r\nSTARTTLS required\r\n.\r\n");
    assert_eq!(String::from_utf8(refusal("admin", "Service down")).unwrap(), "-TEMP/MTQP/admin Service down\r\n");
}

#[test]
fn rfc3887_3_out_of_service_every_session_is_refused_and_over() {
    for (why, said) in [
        (OutOfService::Temporarily, "-TEMP/MTQP/admin Service down for admin, call back later\r\n"),
        (OutOfService::ForGood, "-ERR/MTQP/admin Service down\r\n"),
    ] {
        let rules = Rules { out_of_service: Some(why), ..rules() };
        for transport in [Transport::Plain, Transport::Tls { secure: true }] {
            assert_eq!(greeting(&rules, transport), said);
            assert!(Session::new(&rules, transport).is_closed());
            assert_eq!(talk(&rules, transport, b"TRACK a@b YWJj\r\nSTARTTLS a.test\r\nQUIT\r\n", 9), "", "no command is taken");
        }
    }
    assert!(!Session::new(&rules(), Transport::Plain).is_closed());
}

#[test]
fn rfc3887_6_2_after_tls_there_is_no_starttls_option_and_the_list_differs() {
    let after = greeting(&rules(), Transport::Tls { secure: true });
    assert_eq!(after, "+OK/MTQP MTQP server ready\r\n");
    assert_ne!(after, greeting(&rules(), Transport::Plain));
}

#[test]
fn rfc3887_2_2_a_line_has_998_characters() {
    let fits = format!("COMMENT {}\r\n", "x".repeat(990));
    let long = format!("COMMENT {}\r\n", "x".repeat(991));
    assert_eq!(plain(&fits), "+OK\r\n");
    assert_eq!(plain(&(long + "COMMENT\r\n")), "-BAD a line has at most 998 characters\r\n+OK\r\n");
}

#[test]
fn rfc3887_2_3_unrecognised_and_invalid_commands_are_bad() {
    for line in ["FOO", "", "TRACK", "TRACK a@b", "TRACK a@b YWJj x", "TRACK a@b !!!", "QUIT now", " QUIT", "COMMENT \u{7f}"] {
        let said = plain(&format!("{line}\r\nCOMMENT\r\n"));
        assert!(said.starts_with("-BAD ") && said.ends_with("\r\n+OK\r\n"), "{line}: {said}");
    }
    assert_eq!(plain("COMMENT x\nCOMMENT\r\n"), "-BAD lines end with CR LF\r\n+OK\r\n");
}

#[test]
fn rfc3887_4_track_is_handed_on_and_tls_required_for_some_domains() {
    assert_eq!(plain("track <a@b.test> YWJj\r\n"), "{track a@b.test YWJj}\r\n");
    let some = Rules { require_tls: RequireTls::Domains(vec!["example.com".into()]), ..rules() };
    let said = |t, line: &str| talk(&some, t, line.as_bytes(), 99);
    assert!(said(Transport::Plain, "TRACK a@mx.Example.com YWJj\r\n").starts_with("-ERR/tls-required "));
    assert!(said(Transport::Plain, "TRACK <a@example.com> YWJj\r\n").starts_with("-ERR/tls-required "));
    assert!(said(Transport::Plain, "TRACK a@badexample.com YWJj\r\n").starts_with("{track"));
    assert!(said(Transport::Tls { secure: true }, "TRACK a@example.com YWJj\r\n").starts_with("{track"));
}

#[test]
fn rfc3887_4_no_message_and_wrong_secret_are_one_answer() {
    assert_eq!(no_info(), b"-ERR/noinfo nothing is known of such a message\r\n");
}

#[test]
fn rfc3887_5_comment_is_always_successful() {
    assert_eq!(plain("COMMENT\r\ncomment \tSTARTTLS QUIT TRACK\r\n"), "+OK\r\n+OK\r\n");
}

#[test]
fn rfc3887_6_starttls_names_a_server_and_is_refused_with_reasons() {
    assert_eq!(plain("starttls  Mail.Example.com \t\r\n"), "{tls mail.example.com}\r\n");
    assert!(plain("STARTTLS\r\n").starts_with("-BAD/bad-fqdn "));
    assert!(plain("STARTTLS localhost\r\n").starts_with("-BAD/bad-fqdn "));
    assert!(bad_fqdn().starts_with(b"-BAD/bad-fqdn "));
    assert!(over_tls("STARTTLS mail.example.com\r\n").starts_with("-BAD/tls-in-progress "));
    assert!(over_tls("STARTTLS\r\n").starts_with("-BAD/tls-in-progress "));
    let with = |starttls| talk(&Rules { starttls, ..rules() }, Transport::Plain, b"STARTTLS mail.example.com\r\n", 9);
    assert!(with(StartTls::Unsupported).starts_with("-ERR/unsupported "));
    assert!(with(StartTls::Unavailable).starts_with("-TEMP/unavailable "));
}

#[test]
fn rfc3887_6_1_a_session_that_is_not_good_enough_gets_insecure_for_all_but_quit() {
    let said = talk(&rules(), Transport::Tls { secure: false }, b"TRACK a@b YWJj\r\nCOMMENT\r\nSTARTTLS a.b\r\nQUIT\r\n", 7);
    assert_eq!(said.matches("-ERR/insecure ").count(), 3);
    assert!(said.ends_with("+OK bye\r\n{close}"));
}

#[test]
fn rfc3887_7_quit_is_successful_and_ends_the_session() {
    assert_eq!(plain("QUIT\r\nCOMMENT\r\n"), "+OK bye\r\n{close}");
}

#[test]
fn rfc3887_8_pipelined_commands_are_answered_in_order() {
    let said = plain("TRACK a@b YWJj\r\nCOMMENT\r\nTRACK c@d ZGVm\r\nFOO\r\nQUIT\r\n");
    assert_eq!(said, "{track a@b YWJj}\r\n+OK\r\n{track c@d ZGVm}\r\n-BAD no such command\r\n+OK bye\r\n{close}");
}

#[test]
fn n1_what_stands_behind_starttls_in_the_same_segment_is_never_a_command() {
    let r = rules();
    let mut s = Session::new(&r, Transport::Plain);
    s.feed(b"STARTTLS mail.example.com\r\nTRACK a@b YWJj\r\nCOMM");
    assert_eq!(s.next_step(), Some(Step::StartTls("mail.example.com".into())));
    // The caller drops the session; the next one knows nothing of it.
    let mut s = Session::new(&r, Transport::Tls { secure: true });
    assert_eq!(s.next_step(), None);
    assert!(!s.is_amid_command());
    s.feed(b"ENT\r\n");
    assert_eq!(s.next_step(), Some(Step::Reply(b"-BAD no such command\r\n".to_vec())));
}

#[test]
fn n3_bounds_of_a_session() {
    let few = Rules { max_commands: 3, max_bad_commands: 2, ..rules() };
    let said = talk(&few, Transport::Plain, &b"COMMENT\r\n".repeat(9), 5);
    assert_eq!(said, "+OK\r\n+OK\r\n+OK\r\n-TEMP/admin too many commands in one session\r\n{close}");
    let said = talk(&few, Transport::Plain, &b"FOO\r\n".repeat(9), 5);
    assert_eq!(said, "-BAD no such command\r\n-BAD no such command\r\n{close}");
    assert_eq!(plain("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "-BAD this is no web server\r\n{close}");
    assert_eq!(talk(&rules(), Transport::Plain, b"\x16\x03\x01\x02\x00", 1), "-BAD TLS begins with STARTTLS here\r\n{close}");
}

#[test]
fn n3_a_line_without_end_holds_no_memory_and_is_closed() {
    let r = rules();
    let mut s = Session::new(&r, Transport::Plain);
    let mut fed = 0usize;
    let step = loop {
        s.feed(&[b'x'; 4096]);
        fed += 4096;
        assert!(s.is_amid_command());
        assert!(fed < 1 << 20, "never closed");
        if let Some(step) = s.next_step() {
            break step;
        }
    };
    assert_eq!(step, Step::Close(b"-BAD line without end\r\n".to_vec()));
    s.feed(b"QUIT\r\n");
    assert_eq!(s.next_step(), None);
}

fn hostile_input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"TRACK <a@b> YWJj\r\n".to_vec()),
        Just(b"COMMENT x\r\n".to_vec()),
        Just(b"STARTTLS a.b\r\n".to_vec()),
        Just(b"QUIT\r\n".to_vec()),
        Just(b"\n".to_vec()),
        Just(b"\r".to_vec()),
        (1usize..3000).prop_map(|n| vec![b'y'; n]),
        proptest::collection::vec(any::<u8>(), 0..50),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|v| v.concat())
}

proptest! {
    /// A session fed in chunks of 1 to 512 bytes gives the same dialogue.
    #[test]
    fn chunks_of_any_size_give_the_same_dialogue(input in hostile_input(), chunk in 1usize..=512) {
        let r = Rules { max_bad_commands: 5, ..rules() };
        prop_assert_eq!(talk(&r, Transport::Plain, &input, chunk), talk(&r, Transport::Plain, &input, 1 << 20));
    }
}
