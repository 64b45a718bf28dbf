//! The MTQP server over real sockets.

use crate::mtqp_support::*;
use crate::support::{Index, msgtrk};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Plays every dialogue of `tests/golden/mtqp`: log, bindings, config and the name on the certificate beside it. `#` begins a remark.
#[test]
fn golden_dialogues() {
    let mut found = Vec::new();
    let mut wrong = Vec::new();
    for entry in glob::glob("tests/golden/mtqp/*/dialogue").unwrap() {
        let path = entry.unwrap();
        let got = play(path.parent().unwrap());
        let want = std::fs::read_to_string(&path).unwrap();
        if got != want {
            let new = path.with_extension("new");
            std::fs::write(&new, &got).unwrap();
            wrong.push(format!("{}: got this instead, also in {}:\n{got}", path.display(), new.display()));
        }
        found.push(path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned());
    }
    for n in 1..=14 {
        assert!(found.iter().any(|f| f.starts_with(&format!("{n:02}-"))), "example {n} of RFC 3887 is missing");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn play(dir: &Path) -> String {
    let text = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_default();
    let index = index_of(&text("log"));
    for line in text("bindings").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        bind(&index, words[0], words[1], words[2], None);
    }
    let mut told = config(&text("config.toml"));
    told.certificates = text("certificate").lines().map(|name| certificate(index.dir.path(), "own", &[name])).collect();
    let server = serve(&index, told);
    let mut stream = connect(server.plain);
    let dialogue = text("dialogue");
    let mut lines = dialogue.lines().peekable();
    let mut out = String::new();
    while let Some(remark) = lines.next_if(|l| l.starts_with('#')) {
        out.push_str(&format!("{remark}\n"));
    }
    let show = |out: &mut String, said: &str| said.lines().for_each(|l| out.push_str(&format!("S: {l}").trim_end().to_string().add_line()));
    show(&mut out, &response(&mut stream));
    let mut batch: Vec<String> = Vec::new();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("C: ") else { continue };
        batch.push(format!("{command}\r\n"));
        out.push_str(&format!("{line}\n"));
        if lines.peek().is_some_and(|l| l.starts_with("C: ")) {
            continue;
        }
        stream.write_all(batch.concat().as_bytes()).unwrap();
        for _ in 0..batch.len() {
            show(&mut out, &response(&mut stream));
        }
        batch.clear();
    }
    out
}

trait AddLine {
    fn add_line(self) -> String;
}

impl AddLine for String {
    fn add_line(mut self) -> String {
        self.push('\n');
        self
    }
}

const ID: &str = "12345-20010101@example.com";

fn example(name: &str) -> Index {
    index_of(&std::fs::read_to_string(format!("tests/golden/mtqp/{name}/log")).unwrap())
}

fn delivered() -> Index {
    let index = example("06-delivered");
    bind(&index, "4Abc01", ID, SECRET, None);
    index
}

fn track(secret: &str) -> String {
    format!("TRACK <{ID}> {secret}\r\nQUIT\r\n")
}

const NOINFO: &str = "-ERR/noinfo nothing is known of such a message\r\n";

#[test]
fn n4_unknown_and_wrong_are_the_same_bytes_and_neither_is_faster() {
    let index = delivered();
    let server = serve(&index, config("[limits]\nfailed_track_milliseconds = 200"));
    let mut said = Vec::new();
    for line in [format!("TRACK {ID} d3Jvbmc=\r\n"), format!("TRACK nobody@example.com {SECRET}\r\n"), "TRACK x@y d3Jvbmc=\r\n".to_string()]
    {
        let mut s = connect(server.plain);
        response(&mut s);
        let began = Instant::now();
        s.write_all(line.as_bytes()).unwrap();
        said.push(response(&mut s));
        assert!(began.elapsed() >= Duration::from_millis(200));
    }
    assert!(said.iter().all(|s| s == NOINFO), "{said:?}");
    // A fourth failure of the same client takes longer.
    let began = Instant::now();
    assert!(talk(server.plain, b"TRACK x@y d3Jvbmc=\r\n").contains(NOINFO));
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains("Action: delivered"));
    // With `opaque` they are one answer, too.
    let index = delivered();
    let server = serve(&index, config("unknown = \"opaque\""));
    let a = talk(server.plain, format!("TRACK {ID} d3Jvbmc=\r\n").as_bytes());
    assert_eq!(a, talk(server.plain, format!("TRACK {ID} eHh4\r\n").as_bytes()));
    assert!(a.contains("Action: opaque") && !a.contains("example2"));
}

#[test]
fn r8_two_claims_of_one_envelope_id_open_their_own_message_only() {
    let index = example("13-two-commands");
    bind(&index, "4Abc01", ID, "c2VjcmV0LW9uZQ==", None);
    bind(&index, "4Abc02", ID, "c2VjcmV0LXR3bw==", None);
    let server = serve(&index, config(""));
    let one = talk(server.plain, track("c2VjcmV0LW9uZQ==").as_bytes());
    let two = talk(server.plain, track("c2VjcmV0LXR3bw==").as_bytes());
    assert!(one.contains("user1@example1.com") && !one.contains("user9"), "{one}");
    assert!(two.contains("user9@example1.com") && !two.contains("user1@"), "{two}");
}

#[test]
fn r8_who_learns_a_certifier_cannot_bury_its_message_under_others() {
    // A certifier goes in the clear from host to host: whoever sees it can mark messages of their own with it.
    let mut log = std::fs::read_to_string("tests/golden/mtqp/06-delivered/log").unwrap();
    let ids: Vec<String> = (0..70).map(|n| format!("3E{n:04}")).collect();
    for id in &ids {
        log.push_str(&std::fs::read_to_string("tests/golden/mtqp/06-delivered/log").unwrap().replace("4Abc01", id).replace("T15:", "T16:"));
    }
    let index = index_of(&log);
    bind(&index, "4Abc01", ID, SECRET, None);
    bind_all(&index, &ids, "evil@example.net", SECRET);
    let server = serve(&index, config(""));
    let said = talk(server.plain, track(SECRET).as_bytes());
    assert!(said.contains("Action: delivered"), "{said}");
    // Not even under its own envelope id: the oldest come first.
    bind_all(&index, &ids, ID, SECRET);
    server.committed();
    let said = talk(server.plain, track(SECRET).as_bytes());
    assert!(said.contains("Arrival-Date: Mon, 1 Jan 2001 20:15:15"), "{said}");
    assert_eq!(said.matches("Reporting-MTA").count(), msgtrk::mtqp::tracker::MAX_BOUND);
}

#[test]
fn r8_an_envelope_id_without_a_binding_opens_nothing() {
    // The ENVID is known from the record's own word only, as a DSN or a log line would have it.
    let index = example("06-delivered");
    let server = serve(&index, config(""));
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains(NOINFO));
}

fn eleven_days_later() -> i64 {
    clock() + 11 * 86_400
}

#[test]
fn rfc3885_3_1_ten_days_by_default_and_never_ended_while_queued() {
    let late = |index: &Index, config_text: &str| {
        talk(serve_at(index, config(config_text), "127.0.0.1:0", eleven_days_later).plain, track(SECRET).as_bytes())
    };
    assert!(late(&delivered(), "").contains(NOINFO));
    assert!(late(&delivered(), "default_lifetime_days = 30").contains("Action: delivered"));
    let queued = example("08-delayed");
    bind(&queued, "4Abc01", ID, SECRET, None);
    assert!(late(&queued, "").contains("Action: delayed"));
    // What the binding says comes before the default.
    let long = delivered();
    bind(&long, "4Abc01", ID, SECRET, Some(clock() + 20 * 86_400));
    assert!(late(&long, "").contains("Action: delivered"));
}

#[test]
fn what_is_taken_back_or_granted_while_the_server_runs_is_seen_at_once() {
    let index = example("06-delivered");
    let server = serve(&index, config("[limits]\nfailed_track_milliseconds = 0"));
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains(NOINFO));
    bind(&index, "4Abc01", ID, SECRET, None);
    server.committed();
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains("Action: delivered"));
    bind(&index, "4Abc01", ID, SECRET, Some(0));
    server.committed();
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains(NOINFO));
    assert!(talk(server.plain, b"TRACK a@b YWJj\r\n").contains(NOINFO));
}

#[test]
fn hostile_input_gets_bad_or_a_closed_connection() {
    let index = delivered();
    let server = serve(&index, config(""));
    for garbage in [
        &b"\0\0\0\0\r\n"[..],
        b"\xff\xfe\r\n",
        b"TRACK\0x YWJj\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"TRACK <a@b> YWJj",
        b"\r\n",
        b"\n\n\n",
        b"TRACK a@b YWJj\nQUIT\n",
    ] {
        let said = talk(server.plain, garbage);
        let rest = said.strip_prefix("+OK/MTQP MTQP server ready\r\n").unwrap();
        assert!(rest.is_empty() || rest.starts_with("-BAD "), "{}: {rest}", garbage.escape_ascii());
        assert!(!rest.contains("+OK"), "{rest}");
    }
    let said = talk(server.plain, track(SECRET).as_bytes());
    assert!(said.contains("Action: delivered"), "it still serves: {said}");
}

#[test]
fn n3_a_gigabyte_without_a_newline_is_cut_off_early() {
    let index = delivered();
    let server = serve(&index, config(""));
    let mut s = connect(server.plain);
    let block = vec![b'x'; 1 << 16];
    let mut sent = 0u64;
    while sent < 1 << 30 {
        match s.write(&block) {
            Ok(n) => sent += n as u64,
            Err(_) => break,
        }
    }
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    drop(s);
    gone(&server);
}

/// All connections have ended.
fn gone(server: &Server) {
    let until = Instant::now() + Duration::from_secs(20);
    while server.handle.as_ref().unwrap().open_connections() > 0 {
        assert!(Instant::now() < until, "a connection stays open");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn n3_ten_thousand_pipelined_commands_are_answered_in_order() {
    let index = delivered();
    let server = serve(&index, config("[limits]\nmax_commands = 10_001"));
    let mut input = b"COMMENT x\r\n".repeat(9_999);
    input.extend_from_slice(track(SECRET).as_bytes());
    let mut s = connect(server.plain);
    let mut reader = s.try_clone().unwrap();
    let read = std::thread::spawn(move || {
        let mut said = String::new();
        let _ = reader.read_to_string(&mut said);
        said
    });
    s.write_all(&input).unwrap();
    let said = read.join().unwrap();
    assert_eq!(said.matches("+OK\r\n").count(), 9_999);
    assert!(said.contains("Action: delivered") && said.ends_with("+OK bye\r\n"));
    let index = delivered();
    let server = serve(&index, config("[limits]\nmax_commands = 5"));
    assert!(talk(server.plain, &b"COMMENT\r\n".repeat(9)).ends_with("-TEMP/admin too many commands in one session\r\n"));
}

#[test]
fn n2_what_drips_or_never_reads_is_cut_by_an_absolute_deadline() {
    let short = "[limits]\ncommand_timeout_seconds = 1\nwrite_timeout_seconds = 1\nhandshake_timeout_seconds = 1\nmax_commands = 1_000_000";
    let index = delivered();
    let mut c = config(short);
    c.certificates = vec![certificate(index.dir.path(), "a", &["a.test"])];
    let server = serve(&index, c);
    // A byte every 200 ms: each of them alone would be in time.
    let mut s = connect(server.plain);
    response(&mut s);
    let began = Instant::now();
    while s.write_all(b"C").is_ok() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    // A handshake that never comes.
    let mut s = connect(server.plain);
    response(&mut s);
    s.write_all(b"STARTTLS a.test\r\n").unwrap();
    assert!(response(&mut s).starts_with("+OK"));
    let began = Instant::now();
    let _ = s.read(&mut [0u8; 9]);
    assert!(began.elapsed() < Duration::from_secs(5));
    // Commands without end, and nobody reads the answers.
    let mut s = connect(server.plain);
    s.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let line = format!("TRACK {ID} {SECRET}\r\n").repeat(100);
    let began = Instant::now();
    while s.write_all(line.as_bytes()).is_ok() && began.elapsed() < Duration::from_secs(20) {}
    assert!(began.elapsed() < Duration::from_secs(20));
    gone(&server);
}

#[test]
fn n3_connections_of_one_client_are_bounded() {
    let index = delivered();
    let server = serve(&index, config("[limits]\nmax_connections_per_client = 2"));
    let (mut a, mut b) = (connect(server.plain), connect(server.plain));
    response(&mut a);
    response(&mut b);
    assert_eq!(response(&mut connect(server.plain)), "-TEMP/MTQP/unavailable too many connections\r\n");
    drop(a);
    let until = Instant::now() + Duration::from_secs(10);
    while !response(&mut connect(server.plain)).starts_with("+OK") {
        assert!(Instant::now() < until);
    }
    response_ok(&mut b);
}

fn response_ok(s: &mut std::net::TcpStream) {
    s.write_all(b"COMMENT\r\n").unwrap();
    assert_eq!(response(s), "+OK\r\n");
}

#[test]
fn a_graceful_stop_closes_idle_sessions_and_the_port() {
    let index = delivered();
    let mut server = serve(&index, config(""));
    let mut s = connect(server.plain);
    response(&mut s);
    let handle = server.handle.take().unwrap();
    server.runtime.block_on(handle.stop(Duration::from_secs(5)));
    assert_eq!(s.read(&mut [0u8; 9]).unwrap(), 0);
    assert!(std::net::TcpStream::connect(server.plain).is_err());
}

fn json(out: &std::process::Output) -> serde_json::Value {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn index_path(index: &Index) -> PathBuf {
    index.dir.path().join("index")
}

fn fixed(to: SocketAddr, name: &str) -> String {
    format!("{name}={to}")
}

#[test]
fn grant_track_revoke_from_end_to_end() {
    let index = example("09-relayed-and-failed");
    let memory = index.dir.path().join("memory.json").display().to_string();
    let granted = json(&msgtrk(&index_path(&index), &["grant", "<m1@example.com>", "--json", "--server", "mx.test"]));
    let text = |k: &str| granted[k].as_str().unwrap().to_string();
    assert_eq!(text("certifier").len(), 27);
    assert!(text("url").starts_with(&format!("mtqp://mx.test/track/{}/", text("envelope_id"))), "{granted}");
    let real = || chrono::Utc::now().timestamp();
    let server = serve_at(&index, config(""), "127.0.0.1:0", real);
    let resolve = fixed(server.plain, "mx.test");
    let ask = |url: &str, more: &[&str]| {
        let base = ["track", url, "--resolve", &resolve, "--memory", &memory];
        msgtrk(&index_path(&index), &[&base[..], more].concat())
    };
    let seen = json(&ask(&text("url"), &["--json"]));
    let ends: Vec<_> = seen["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["original_recipient"].as_str().unwrap(), r["action"].as_str().unwrap()))
        .collect();
    assert_eq!(ends, [("user1@example1.com", "relayed"), ("user2@example1.com", "failed")]);
    let tree = String::from_utf8(ask(&text("url"), &[]).stdout).unwrap();
    assert!(tree.contains("example2.com") && tree.contains("user2@example1.com"), "{tree}");
    let raw = String::from_utf8(ask(&text("url"), &["--raw"]).stdout).unwrap();
    assert!(raw.contains("Content-Type: message/tracking-status"), "{raw}");
    // One recipient only.
    let one = json(&msgtrk(
        &index_path(&index),
        &["grant", "4Abc01", "--for", "user2@example1.com", "--timeout", "2h", "--json", "--server", "mx.test"],
    ));
    server.committed();
    let seen = json(&ask(one["url"].as_str().unwrap(), &["--json"]));
    assert_eq!(seen["recipients"].as_array().unwrap().len(), 1);
    // Many at once.
    let batch = index.dir.path().join("urls");
    std::fs::write(&batch, format!("# two\n{}\n\n{}\n", text("url"), one["url"].as_str().unwrap()).repeat(20)).unwrap();
    let out =
        msgtrk(&index_path(&index), &["track", "--batch", batch.to_str().unwrap(), "--json", "--resolve", &resolve, "--memory", &memory]);
    assert_eq!(String::from_utf8(out.stdout).unwrap().lines().count(), 40);
    // Taken back.
    assert!(msgtrk(&index_path(&index), &["revoke", &text("url")]).status.success());
    server.committed();
    assert_eq!(ask(&text("url"), &[]).status.code(), Some(1));
    assert!(ask(one["url"].as_str().unwrap(), &[]).status.success());
    assert_eq!(msgtrk(&index_path(&index), &["revoke", &text("url")]).status.code(), Some(1));
    assert!(msgtrk(&index_path(&index), &["revoke", one["envelope_id"].as_str().unwrap()]).status.success());
    server.committed();
    assert_eq!(ask(one["url"].as_str().unwrap(), &[]).status.code(), Some(1));
}

#[test]
fn rfc3887_2_5_the_client_waits_two_minutes_at_least() {
    let index = Index::new();
    let out = msgtrk(&index_path(&index), &["track", "mtqp://127.0.0.1/track/a@b/YWJj", "--timeout", "119"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("120"), "{out:?}");
    let roots = std::sync::Arc::new(rustls::RootCertStore::empty());
    let options = msgtrk::mtqp::client::Options::new(msgtrk::mtqp::client::TlsMode::Prefer, roots);
    assert!(options.answer_timeout >= Duration::from_secs(120));
}

#[test]
fn rfc3887_3_a_server_that_is_out_of_service_is_said_to_be() {
    let index = delivered();
    let server = serve(&index, config("out_of_service = \"temporarily\""));
    let memory = index.dir.path().join("memory.json").display().to_string();
    let url = format!("mtqp://mx.test/track/{ID}/{SECRET}");
    let out = msgtrk(&index_path(&index), &["track", &url, "--resolve", &fixed(server.plain, "mx.test"), "--memory", &memory]);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("out of service: mtqp/admin Service down for admin"), "{out:?}");
    assert_eq!(talk(server.plain, track(SECRET).as_bytes()).lines().count(), 1, "no command is answered");
}

#[test]
fn grant_refuses_what_is_unclear() {
    let log = std::fs::read_to_string("tests/golden/mtqp/13-two-commands/log").unwrap().replace("m2@", "m1@");
    let index = index_of(&log);
    let run = |args: &[&str]| msgtrk(&index_path(&index), args);
    let several = run(&["grant", "m1@example.com"]);
    assert_eq!(several.status.code(), Some(2));
    let said = String::from_utf8(several.stderr).unwrap();
    let keys: Vec<&str> = said.lines().filter(|l| l.starts_with("example2.com/")).filter_map(|l| l.split_whitespace().next()).collect();
    assert_eq!(keys.len(), 2, "{said}");
    assert!(run(&["grant", keys[1]]).status.success());
    assert!(run(&["grant", "m1@example.com", "--for", "user9@example1.com"]).status.success());
    assert_eq!(run(&["grant", "m1@example.com", "--for", "nobody@example1.com"]).status.code(), Some(2));
    assert_eq!(run(&["grant", "none@example.com"]).status.code(), Some(1));
    assert_eq!(run(&["grant", keys[0], "--timeout", "soon"]).status.code(), Some(2));
    assert_eq!(run(&["grant", keys[0], "--server", "a b"]).status.code(), Some(2));
}

/// Lines of a mail that bears somebody else's Message-ID.
fn copy(n: usize) -> String {
    let line = |rest: &str| format!("2001-01-01T15:15:16-05:00 smtp.example3.com postfix/{rest}\n");
    let id = format!("{:06X}", 0xA00000 + n);
    line(&format!("smtpd[1]: {id}: client=example2.com[192.0.2.20]"))
        + &line(&format!("cleanup[1]: {id}: message-id=<m1@example.com>"))
        + &line(&format!("qmgr[1]: {id}: from=<evil@example.net>, size=500, nrcpt=1 (queue active)"))
        + &line(&format!(
            "local[1]: {id}: to=<user1@example1.com>, relay=local, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered to mailbox)"
        ))
        + &line(&format!("qmgr[1]: {id}: removed"))
}

#[test]
fn r8_thousands_of_mails_with_a_copied_message_id_neither_show_nor_crowd_out() {
    let mut log = std::fs::read_to_string("tests/golden/mtqp/10-firewall/log").unwrap();
    (0..2_500).for_each(|n| log.push_str(&copy(n)));
    let index = index_of(&log);
    bind(&index, "4Abc01", ID, SECRET, None);
    let server = serve(&index, config(""));
    let said = talk(server.plain, track(SECRET).as_bytes());
    let want = std::fs::read_to_string("tests/golden/mtqp/10-firewall/dialogue").unwrap();
    let want: Vec<&str> = want.lines().filter_map(|l| l.strip_prefix("S: ").or(if l == "S:" { Some("") } else { None })).collect();
    let got: Vec<&str> = said.lines().filter(|l| !l.contains("bye")).collect();
    assert_eq!(got, want);
}

#[test]
fn r8_mails_with_a_copied_message_id_hide_no_witness() {
    // Real lines: the recipient's rule threw the mail away, and its sender is not to learn of it. Copies come later.
    let all = std::fs::read_to_string("sample-logs/exim/mail.log").unwrap();
    let id = "exim1.0148.kt2kv3@client.example.test";
    let of_it = |l: &&str| l.contains(" store ") && (l.contains("E69629FC542") || l.contains(id));
    let mut log: String = all.lines().filter(of_it).map(|l| format!("{l}\n")).collect();
    let opaque = |log: &str| {
        let index = index_of(log);
        bind(&index, "E69629FC542", ID, SECRET, Some(clock() + 30 * 365 * 86_400));
        let said = talk(serve(&index, config("")).plain, track(SECRET).as_bytes());
        assert!(said.contains("disc@example.test"), "{said}");
        said.contains("Action: opaque") && !said.contains("Action: delivered")
    };
    assert!(opaque(&log), "{log}");
    let copies: String = (0..300).map(copy).collect();
    let copies = copies.replace("m1@example.com", id).replace("2001-01-01T15:15:16-05:00", "2026-11-23T12:49:36+00:00");
    log.push_str(&copies);
    assert!(opaque(&log));
}

#[test]
fn r8_every_hand_over_by_queue_id_in_real_logs_is_proven_and_every_answer_can_be_written() {
    use msgtrk::model::journey::{By, journey_of};
    use msgtrk::model::record::Role;
    use msgtrk::mtqp::answer::{Opened, Policy, answer, proof::proves};
    let policy = Policy::default();
    for (dir, least) in [("sample-logs/postfix", 500), ("sample-logs/exim", 300)] {
        let index = Index::new();
        index.fill(&[PathBuf::from(dir)], "localhost");
        let view = view(&index);
        let (mut edges, mut parts) = (0, 0);
        for r in index.records().iter().map(|r| r.derive()).filter(|r| r.role == Role::Hop) {
            let root = r.key.clone();
            let journey = journey_of(&mut view.walk_by_proof(), r).unwrap().unwrap();
            for e in journey.edges.iter().filter(|e| e.by == By::QueueId && e.from == root) {
                let of = |key: &str| journey.records.iter().find(|r| r.key == key).unwrap();
                let (a, b) = (of(&e.from), of(&e.to));
                assert!(a.recipients.iter().any(|p| proves(a, p, b, &policy)), "{} -> {}", e.from, e.to);
                edges += 1;
            }
            let a = answer(&[Opened { journey, root, only: None, ends: 0 }], &policy, "e@x");
            msgtrk::trkstat::write(&a.parts).unwrap();
            parts += a.parts.len();
        }
        assert!(edges >= least && parts > edges, "{dir}: {edges} hand-overs, {parts} parts");
    }
}

static NOW: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(978_436_800);

fn moving() -> i64 {
    NOW.load(std::sync::atomic::Ordering::SeqCst)
}

#[test]
fn a_kept_answer_is_the_same_and_ends_with_its_binding() {
    let index = example("06-delivered");
    bind(&index, "4Abc01", ID, SECRET, Some(moving() + 100));
    let server = serve_at(&index, config(""), "127.0.0.1:0", moving);
    let first = talk(server.plain, track(SECRET).as_bytes());
    assert!(first.contains("Action: delivered"));
    assert_eq!(talk(server.plain, track(SECRET).as_bytes()), first);
    assert!(talk(server.plain, track("d3Jvbmc=").as_bytes()).contains(NOINFO));
    NOW.fetch_add(101, std::sync::atomic::Ordering::SeqCst);
    assert!(talk(server.plain, track(SECRET).as_bytes()).contains(NOINFO));
}

#[test]
fn rfc3886_4_2_answers_from_real_logs_name_only_whom_the_sender_addressed() {
    use msgtrk::model::event::Action;
    use msgtrk::model::journey::{folded, journey_of};
    use msgtrk::mtqp::answer::{Opened, Policy, answer};
    use std::collections::{HashMap, HashSet};
    for dir in ["sample-logs/postfix", "sample-logs/exim"] {
        let mut addressed: HashMap<String, HashSet<String>> = HashMap::new();
        let mut lists: HashSet<String> = HashSet::new();
        for line in std::fs::read_to_string(format!("{dir}/truth.jsonl")).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            // A recipient that a milter adds cannot be told from one the sender named; `never_show` is for those.
            if row["scenario"].as_str().is_some_and(|s| s.contains("addrcpt")) {
                continue;
            }
            let text = |k: &str| row[k].as_str().unwrap_or_default().to_string();
            let to = folded(&text("to"));
            if text("outcome") == "expanded" {
                lists.insert(to.clone());
            }
            addressed.entry(text("message_id").trim_matches(['<', '>']).to_string()).or_default().insert(to);
        }
        let index = Index::new();
        index.fill(&[PathBuf::from(dir)], "localhost");
        let view = view(&index);
        let (mut answers, mut expanded) = (0, 0);
        for (id, to) in &addressed {
            for j in index.trace(id) {
                // The first hop: the client is no host of ours.
                let roots = j.records.iter().filter(|r| !j.edges.iter().any(|e| e.to == r.key) && r.message_id.as_ref() == Some(id));
                for r in roots.filter(|r| r.client.name.as_deref().is_some_and(|n| n.starts_with("client"))) {
                    let journey = journey_of(&mut view.walk_by_proof(), r.clone()).unwrap().unwrap();
                    let a = answer(&[Opened { journey, root: r.key.clone(), only: None, ends: 0 }], &Policy::default(), "e@x");
                    for p in a.parts.iter().flat_map(|p| &p.recipients).filter(|p| p.original_recipient.kind == "rfc822") {
                        let original = folded(&p.original_recipient.value);
                        assert!(to.contains(&original), "{dir} {id}: {} was not addressed", p.original_recipient.value);
                        if p.action == Action::Expanded {
                            assert_eq!(folded(&p.final_recipient.value), original);
                            expanded += 1;
                        } else {
                            assert!(
                                !lists.contains(&original)
                                    || a.parts
                                        .iter()
                                        .flat_map(|p| &p.recipients)
                                        .any(|q| q.action == Action::Expanded && folded(&q.original_recipient.value) == original),
                                "{dir} {id}: {original} is a list: {p:?}"
                            );
                        }
                    }
                    answers += 1;
                }
            }
        }
        println!("{dir}: {answers} answers, {expanded} expanded");
        assert!(answers > 100 && expanded > 5, "{dir}: {answers} answers, {expanded} expanded");
    }
}
