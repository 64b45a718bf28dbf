//! Marks that only the log of a real Postfix bears: no gateway, `smtpd_command_filter` takes them off.

use super::daemon::{Client, certifier};
use super::postfix::Postfix;
use super::submit::{MAIL, run, said, settings};
use crate::mtqp_support::{config, serve_at};
use crate::support::{Index, msgtrk};
use base64::Engine as _;
use std::time::{Duration, Instant};

/// The rule of contrib/smtp.md, as it stands there.
fn rule() -> &'static str {
    include_str!("../../../contrib/smtp.md").lines().find(|l| l.starts_with("/^MAIL ")).unwrap()
}

#[test]
fn messages_marked_in_the_log_of_a_real_postfix_are_tracked() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let filter = dir.path().join("filter");
    std::fs::write(&filter, rule()).unwrap();
    let Some(postfix) = Postfix::start(&format!("smtpd_command_filter = regexp:{}", filter.display()), None) else { return };
    let mut c = Client::connect(postfix.smtp);
    c.reply();
    c.ask("EHLO c.test");
    let mut message = |mail: &str, to: &[&str]| {
        let told = c.ask(&format!("MAIL FROM:<ann@a.test>{mail}"));
        assert!(told.starts_with("250"), "{told}");
        let taken = to.iter().filter(|t| c.ask(&format!("RCPT TO:<{t}>")).starts_with("250")).count();
        if taken == 0 {
            c.ask("RSET");
            return String::new();
        }
        c.ask("DATA");
        let told = c.ask("Subject: x\r\n\r\nx\r\n.");
        told.split_once("queued as ").unwrap().1.trim().to_string()
    };
    let mark = |secret: &str| format!("MTRK={}", certifier(secret.as_bytes()));
    let whole = message(&format!(" {}:86400 ENVID=1@h.test SIZE=100", mark("one")), &["bob@local.test", "y@slow.test"]);
    let long = format!("{}@h.test", "q".repeat(50));
    message(&format!(" {} ENVID={long}", mark("two")), &["bob@local.test"]);
    // Its recipient is refused: its mark is not the next message's.
    message(&format!(" {} ENVID=3@h.test", mark("three")), &["<"]);
    let unmarked = message("", &["bob@local.test"]);
    // The log ends within the certifier.
    let cut = message(&format!(" SIZE=100 BODY=8BITMIME RET=HDRS ENVID=4@h.test {}:86400", mark("four")), &["bob@local.test"]);
    drop(c);
    // The sender's own program, from the first to the last.
    let home = tempfile::tempdir().unwrap();
    settings(home.path(), postfix.smtp, "tracking_server = \"track.test\"\nmtrk = \"always\"\n");
    let out = run(home.path(), &["submit", "-i", "-f", "ann@a.test", "bob@local.test"], MAIL);
    assert_eq!((out.status.code(), said(&out).as_str()), (Some(0), ""));
    postfix.settle();
    let index = Index::new();
    let path = index.dir.path().join("index");
    let until = Instant::now() + Duration::from_secs(30);
    let first = loop {
        let log = postfix.log_text();
        let out = msgtrk(&path, &["backfill", postfix.log().to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        if log.contains("to=<y@slow.test>") && log.matches("to=<bob@local.test>").count() == 5 {
            break String::from_utf8_lossy(&out.stderr).into_owned();
        }
        std::thread::sleep(Duration::from_millis(100));
        assert!(Instant::now() < until, "{log}");
    };
    // As an operator sees it who reads the whole log at once.
    let again = Index::new();
    let out = msgtrk(&again.dir.path().join("index"), &["backfill", postfix.log().to_str().unwrap()]);
    let words = String::from_utf8_lossy(&out.stderr);
    assert!(words.contains("1 marks of messages to be tracked that are not whole in the log"), "{words}{first}");
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let server = serve_at(&index, config(""), "127.0.0.1:0", clock);
    let track = |envid: &str, secret: &str| {
        let secret = base64::engine::general_purpose::STANDARD.encode(secret);
        let (server, memory) = (server.plain.to_string(), index.dir.path().join("memory"));
        let memory = memory.to_str().unwrap();
        let args = ["track", "--server", &server, "--envelope-id", envid, "--secret", &secret, "--json", "--memory", memory];
        let out = msgtrk(&path, &args);
        let found: serde_json::Value =
            String::from_utf8_lossy(&out.stdout).lines().next().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default();
        let all = found["recipients"].as_array().cloned().unwrap_or_default();
        all.iter().map(|r| format!("{} {}", r["original_recipient"].as_str().unwrap(), r["action"].as_str().unwrap())).collect::<Vec<_>>()
    };
    let mut first = track("1@h.test", "one");
    first.sort();
    assert_eq!(first, ["bob@local.test delivered", "y@slow.test delayed"]);
    assert_eq!(track(&long, "two"), ["bob@local.test delivered"]);
    for (envid, secret) in [("1@h.test", "two"), ("3@h.test", "three"), ("4@h.test", "four")] {
        assert_eq!(track(envid, secret), Vec::<String>::new(), "{envid}");
    }
    let out = run(home.path(), &["sent", "--refresh", "--resolve", &format!("track.test={}", server.plain)], "");
    assert!(said(&out).contains("bob@local.test is delivered"), "{}", said(&out));
    let bound = |id: &str| {
        let out = msgtrk(&path, &["trace", id, "--json", "--lines"]);
        let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let all = found["records"][0]["events"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|e| e["kind"] == "binding").count()
    };
    assert_eq!([bound(&whole), bound(&unmarked), bound(&cut)], [1, 0, 0]);
}
