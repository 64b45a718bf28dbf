//! The daemon, as an operator runs it: a process that follows logs, is asked, killed, told to end.

use crate::serve_support::{Place, action, address, append, eventually, message, number};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn each_state_on_the_way_is_seen_when_it_is_so() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    append(&log, &message(0).concat());
    p.serve(&["--watch", log.to_str().unwrap()]);
    p.trace("m0@c.test", |t| action(t) == "relayed");
    let [came, put_off, sent] = message(1);
    append(&log, &came);
    p.trace("<m1@c.test>", |t| t["records"][0]["queue_id"] == "4AB0000001zGHJK" && t["records"][0]["closed"] == false);
    append(&log, &put_off);
    let t = p.trace("m1@c.test", |t| action(t) == "delayed");
    assert_eq!(t["recipients"][0]["status"], "4.4.1");
    // Half a line is no line.
    let (half, rest) = sent.split_at(100);
    append(&log, half);
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(action(&p.trace("m1@c.test", |_| true)), "delayed");
    append(&log, rest);
    p.trace("m1@c.test", |t| action(t) == "relayed" && t["records"][0]["closed"] == true);
    // Another process reads the index itself.
    eventually("search", || (p.run(&["search", "--to", "r1@d.test", "--action", "relayed"]).status.code() == Some(0)).then_some(()));
}

#[test]
fn killed_at_any_moment_over_rotations_nothing_is_lost_or_doubled() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    let mut written = String::new();
    File::create(&log).unwrap();
    for round in 0..8 {
        p.serve(&["--watch", log.to_str().unwrap()]);
        for n in round * 40..(round + 1) * 40 {
            let lines = message(n).concat();
            append(&log, &lines);
            written.push_str(&lines);
            if n % 25 == 24 {
                for old in (1..30).rev() {
                    let _ = std::fs::rename(p.path(&format!("mail.log.{old}")), p.path(&format!("mail.log.{}", old + 1)));
                }
                std::fs::rename(&log, p.path("mail.log.1")).unwrap();
                File::create(&log).unwrap();
            }
            if n % 10 == 0 {
                std::thread::sleep(Duration::from_millis((n as u64 * 7) % 60));
            }
        }
        p.kill();
    }
    p.serve(&["--watch", log.to_str().unwrap()]);
    p.trace("m319@c.test", |t| action(t) == "relayed");
    eventually("all of them", || (p.records().len() >= 320).then_some(()));
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    let other = Place::new();
    let whole = other.path("whole.log");
    append(&whole, &written);
    assert!(other.run(&["backfill", whole.to_str().unwrap()]).status.success());
    assert_eq!(p.records(), other.records());
    assert!(p.run(&["verify"]).status.success());
}

#[test]
fn a_second_daemon_is_told_who_has_the_index() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    append(&log, &message(0).concat());
    p.serve(&["--watch", log.to_str().unwrap()]);
    let second = p.run(&["serve", "--watch", log.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("pid {}", p.daemon.as_ref().unwrap().id())), "{said}");
}

#[test]
fn backfill_goes_through_the_daemon_and_status_says_how_it_is() {
    let mut p = Place::new();
    let (log, old) = (p.path("mail.log"), p.path("old.log"));
    append(&log, &message(0).concat());
    (1..200).for_each(|n| append(&old, &message(n).concat()));
    p.serve(&["--watch", log.to_str().unwrap(), "--metrics", "127.0.0.1:0"]);
    p.trace("m0@c.test", |t| action(t) == "relayed");
    let done = p.run(&["backfill", old.to_str().unwrap()]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stderr).contains("199 written"));
    p.trace("m199@c.test", |t| action(t) == "relayed");
    let again = p.run(&["backfill", old.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("nothing new"));
    let s = eventually("status", || {
        let s: serde_json::Value = serde_json::from_slice(&p.run(&["status", "--json"]).stdout).ok()?;
        (s["records"] == 200 && s["sources"][0]["lines"] == 6).then_some(s)
    });
    assert_eq!((s["lines"].as_u64(), s["commit_problem"].is_null()), (Some(6), true), "{s}");
    assert_eq!(s["sources"][0]["name"], log.to_str().unwrap());
    let address = p.ready.trim().rsplit_once("metrics=").unwrap().1.to_string();
    let mut http = std::net::TcpStream::connect(address).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    http.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("\nmsgtrk_lines_total 6\n"), "{text}");
    p.kill();
    let none = p.run(&["status"]);
    assert_eq!(none.status.code(), Some(1));
    // The dead daemon's socket is in nobody's way.
    assert!(p.run(&["trace", "m0@c.test"]).status.success());
    assert!(p.run(&["backfill", old.to_str().unwrap()]).status.success());
}

#[test]
fn what_became_part_of_no_record_is_counted() {
    let mut p = Place::new();
    let (log, config) = (p.path("mail.log"), p.path("msgtrk.toml"));
    append(&log, &message(0).concat());
    let at = |stamp: &str, text: &str| format!("{stamp}T08:00:09+00:00 mx1 {text}\n");
    append(&log, &at("2001-03-02", "postfix/qmgr[3]: 4AB0000009zGHJK: removed"));
    append(&log, &at("2026-03-02", "qmail-send[71]: delivery 99: success: 192.0.2.9_accepted_message./Remote_host_said:_250_ok/"));
    append(&log, "Feb 31 08:00:09 mx1 postfix/qmgr[3]: 4AB0000009zGHJK: removed\n");
    // Nineteen years.
    std::fs::write(&config, "[retention]\nretention_days = 7000\n").unwrap();
    p.serve(&["--config", config.to_str().unwrap(), "--watch", log.to_str().unwrap(), "--metrics", "127.0.0.1:0"]);
    p.trace("m0@c.test", |t| action(t) == "relayed");
    let s: serde_json::Value = serde_json::from_slice(&p.run(&["status", "--json"]).stdout).unwrap();
    let left_out = &s["left_out"];
    let counts = ["too_old", "undated", "orphans", "overfull"].map(|why| left_out[why].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(0)], "{s}");
    let out = p.run(&["status"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(0), "{text}");
    for line in ["left out   1 events older than what is kept", "left out   1 lines whose stamp is no date"] {
        assert!(text.contains(line), "{line:?} in {text}");
    }
    let mut http = std::net::TcpStream::connect(address(&p.ready, "metrics")).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut figures = String::new();
    http.read_to_string(&mut figures).unwrap();
    for line in ["left_out_total{why=\"orphan\"} 1", "left_out_total{why=\"too_old\"} 1", "retention_failing 0"] {
        assert!(figures.contains(&format!("\nmsgtrk_{line}\n")), "{line} in {figures}");
    }
}

#[test]
fn a_reload_follows_the_config_and_an_end_is_soon() {
    let mut p = Place::new();
    let (one, two, config) = (p.path("one.log"), p.path("two.log"), p.path("msgtrk.toml"));
    append(&one, &message(0).concat());
    append(&two, &message(1).concat());
    std::fs::write(&config, format!("[[watch]]\npath = {one:?}\n")).unwrap();
    p.serve(&["--config", config.to_str().unwrap()]);
    p.trace("m0@c.test", |t| action(t) == "relayed");
    assert_eq!(p.run(&["trace", "m1@c.test"]).status.code(), Some(1));
    // A broken config changes nothing.
    std::fs::write(&config, "[[watch]]\npaths = 1\n").unwrap();
    p.signal("HUP");
    append(&one, &message(2).concat());
    p.trace("m2@c.test", |t| action(t) == "relayed");
    std::fs::write(&config, format!("[[watch]]\npath = {one:?}\n[[watch]]\npath = {two:?}\n")).unwrap();
    p.signal("HUP");
    p.trace("m1@c.test", |t| action(t) == "relayed");
    append(&one, &message(3).concat());
    p.trace("m3@c.test", |t| action(t) == "relayed");
    let begun = Instant::now();
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(p.records().len(), 4);
}

#[test]
fn what_is_wrong_with_a_config_is_said() {
    let p = Place::new();
    let config = p.path("msgtrk.toml");
    std::fs::write(&config, "[retention]\nretention_day = 3\n").unwrap();
    for args in [&["config", "check", config.to_str().unwrap()][..], &["serve", "--config", config.to_str().unwrap()]] {
        let run = p.run(args);
        let said = String::from_utf8_lossy(&run.stderr).into_owned();
        assert_eq!(run.status.code(), Some(2), "{said}");
        assert!(said.contains("msgtrk.toml") && said.contains("retention_day") && said.contains("line 2"), "{said}");
    }
    let nothing = p.run(&["serve", "--watch", p.path("none.log").to_str().unwrap(), "--metrics", "192.0.2.1:1"]);
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(said.contains("--metrics 192.0.2.1:1"), "{said}");
}

/// `kill -9` at random moments while lines arrive and the real logrotate turns and compresses the file.
/// `MSGTRK_KILLS` and `MSGTRK_RATE` (lines a second) make it longer and faster, with an optimised program:
/// `MSGTRK_BIN=target/release/msgtrk MSGTRK_LONG=900 MSGTRK_KILLS=200 MSGTRK_RATE=20000 cargo test --test all logrotate`.
#[test]
fn killed_while_logrotate_turns_the_file() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        eprintln!("skipped: logrotate is not installed");
        return;
    }
    let (kills, rate) = (number("MSGTRK_KILLS", 6), number("MSGTRK_RATE", 2000));
    let mut p = Place::new();
    let (log, conf, state) = (p.path("mail.log"), p.path("logrotate.conf"), p.path("logrotate.state"));
    std::fs::write(
        &conf,
        format!("{log:?} {{\n size 1\n rotate 10000\n create 0640\n compress\n delaycompress\n missingok\n nodateext\n}}\n"),
    )
    .unwrap();
    File::create(&log).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let written = std::thread::scope(|scope| {
        use std::sync::atomic::Ordering::Relaxed;
        let writer = scope.spawn(|| {
            let (mut all, mut n) = (String::new(), 0);
            let begun = Instant::now();
            while !done.load(Relaxed) {
                let mut lines = String::new();
                // Six lines a message; files are opened anew for each portion, as after a rotation.
                while (n * 6) as f64 <= begun.elapsed().as_secs_f64() * rate as f64 {
                    lines.push_str(&message(n).concat());
                    n += 1;
                }
                // Between logrotate's rename and its new file there is none: who made one then would be in its way.
                while let Err(e) = OpenOptions::new().append(true).open(&log).and_then(|mut f| f.write_all(lines.as_bytes())) {
                    assert_eq!(e.kind(), std::io::ErrorKind::NotFound);
                    std::thread::sleep(Duration::from_millis(1));
                }
                all.push_str(&lines);
                std::thread::sleep(Duration::from_millis(20));
            }
            (all, n)
        });
        let rotator = scope.spawn(|| {
            while !done.load(Relaxed) {
                std::thread::sleep(Duration::from_secs(2));
                let out = Command::new("logrotate").arg("-s").arg(&state).arg(&conf).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            }
        });
        for round in 0..kills as u64 {
            p.serve(&["--watch", log.to_str().unwrap()]);
            std::thread::sleep(Duration::from_millis(300 + (round * 7919) % 2200));
            p.kill();
        }
        done.store(true, Relaxed);
        rotator.join().unwrap();
        writer.join().unwrap()
    });
    let (text, messages) = written;
    p.serve(&["--watch", log.to_str().unwrap()]);
    p.trace(&format!("m{}@c.test", messages - 1), |t| action(t) == "relayed");
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    let other = Place::new();
    let whole = other.path("whole.log");
    append(&whole, &text);
    assert!(other.run(&["backfill", whole.to_str().unwrap()]).status.success());
    let (mine, theirs) = (p.hashes(), other.hashes());
    assert_eq!((mine.len(), theirs.len()), (messages, messages));
    assert!(mine == theirs, "records differ");
}

#[test]
fn who_was_granted_it_can_track_a_message_from_state_to_state() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    let [came, put_off, sent] = message(1);
    append(&log, &came);
    let config = p.path("msgtrk.toml");
    std::fs::write(&config, "[query_log]\nmode = \"on\"\n").unwrap();
    p.serve(&["--config", config.to_str().unwrap(), "--watch", log.to_str().unwrap(), "--mtqp", "127.0.0.1:0"]);
    let server = address(&p.ready, "mtqp");
    p.trace("m1@c.test", |t| t["records"][0]["queue_id"] == "4AB0000001zGHJK");
    // The daemon has the index; the grant goes through it.
    let grant = eventually("grant", || {
        let out = p.run(&["grant", "m1@c.test", "--json", "--server", &server]);
        serde_json::from_slice::<serde_json::Value>(&out.stdout).ok()
    });
    let url = grant["url"].as_str().unwrap().to_string();
    let track = |url: &str| {
        let out = p.run(&["track", url, "--json", "--tls", "off"]);
        serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap_or_default()
    };
    append(&log, &put_off);
    eventually("delayed", || Some(track(&url)).filter(|t| action(t) == "delayed" && t["recipients"][0]["status"] == "4.4.1"));
    append(&log, &sent);
    eventually("relayed", || Some(track(&url)).filter(|t| action(t) == "relayed"));
    // Another secret opens nothing, and says no more than that.
    let wrong = format!("{}/AAAAAAAAAAAAAAAAAAAAAAAAAAAA", url.rsplit_once('/').unwrap().0);
    let out = p.run(&["track", &wrong, "--tls", "off"]);
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    let asked = std::fs::read_to_string(p.path("index").join("queries.jsonl")).unwrap();
    assert!(asked.lines().any(|l| l.contains("\"peer\":\"127.0.0.1\"") && l.contains(grant["envelope_id"].as_str().unwrap())), "{asked}");
    // Nothing more is logged from here on, and the answer is one that the server keeps until something changes.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(action(&track(&url)), "relayed");
    assert!(p.run(&["revoke", &url]).status.success());
    eventually("revoked", || (p.run(&["track", &url, "--tls", "off"]).status.code() == Some(1)).then_some(()));
}

#[test]
fn syslog_messages_and_mailboxes_are_followed_too() {
    let mut p = Place::new();
    let (bounces, read) = (p.path("bounces"), p.path("read"));
    for folder in [&bounces, &read] {
        ["new", "cur", "tmp"].iter().for_each(|part| std::fs::create_dir_all(folder.join(part)).unwrap());
    }
    let config = p.path("msgtrk.toml");
    std::fs::write(&config, format!("[[dsn]]\npath = {bounces:?}\nthen = \"move\"\nmove_to = {read:?}\n")).unwrap();
    p.serve(&["--config", config.to_str().unwrap(), "--syslog", "udp:127.0.0.1:0", "--syslog", "tcp:127.0.0.1:0"]);
    let (udp, tcp) = (address(&p.ready, "syslog-udp"), address(&p.ready, "syslog-tcp"));
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for line in message(1).concat().lines() {
        let line = line.strip_prefix("2026-03-02T08:00:01").map_or(line.to_string(), |rest| format!("2026-03-02T08:00:01{rest}"));
        socket.send_to(format!("<22>{line}").as_bytes(), &udp).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    p.trace("m1@c.test", |t| action(t) == "relayed");
    let mut stream = std::net::TcpStream::connect(&tcp).unwrap();
    stream.write_all(message(2).concat().as_bytes()).unwrap();
    p.trace("m2@c.test", |t| action(t) == "relayed");
    let report = "From: MAILER-DAEMON@d.test\r\nTo: a@c.test\r\nSubject: failure\r\nDate: Mon, 02 Mar 2026 08:10:00 +0000\r\nMessage-ID: <dsn1@d.test>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nNo.\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; d.test\r\nArrival-Date: Mon, 02 Mar 2026 08:00:05 +0000\r\n\r\n\
        Final-Recipient: rfc822; r1@d.test\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n\
        --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <m1@c.test>\r\nFrom: a@c.test\r\nTo: r1@d.test\r\n\r\n--b--\r\n";
    std::fs::write(bounces.join("tmp/1.x"), report).unwrap();
    std::fs::rename(bounces.join("tmp/1.x"), bounces.join("new/1.x")).unwrap();
    let t = p.trace("m1@c.test", |t| t["recipients"][0]["reported"][0]["action"] == "failed");
    assert_eq!(action(&t), "relayed", "a report stands beside the log's word: {t}");
    eventually("moved once it is stored", || read.join("cur/1.x").exists().then_some(()));
    assert!(!bounces.join("new/1.x").exists());
}

#[test]
fn a_message_under_way_is_followed_to_its_end() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    let [came, put_off, sent] = message(1);
    append(&log, &came);
    p.serve(&["--watch", log.to_str().unwrap()]);
    p.trace("m1@c.test", |t| !t["records"][0].is_null());
    let follow = p.command(&["trace", "--follow", "--json", "m1@c.test"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    append(&log, &put_off);
    std::thread::sleep(Duration::from_millis(1500));
    append(&log, &sent);
    let out = follow.wait_with_output().unwrap();
    assert!(out.status.success());
    let shown: Vec<serde_json::Value> = String::from_utf8_lossy(&out.stdout).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let actions: Vec<&str> = shown.iter().map(action).collect();
    assert!(actions.contains(&"delayed") && actions.last() == Some(&"relayed"), "{actions:?}");
}
