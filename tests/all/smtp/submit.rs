//! `msgtrk submit` and `msgtrk sent`.

use super::daemon::{Client, Daemon, scripted, until};
use super::postfix::Postfix;
use crate::support::Index;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program with a home of its own.
pub fn run(home: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msgtrk"));
    for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MSGTRK_INDEX", "MSGTRK_SENT"] {
        command.env_remove(name);
    }
    command.env("HOME", home).env("TZ", "UTC").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

pub fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

pub fn settings(home: &Path, server: SocketAddr, more: &str) {
    std::fs::create_dir_all(home.join(".config/msgtrk")).unwrap();
    let text = format!("server = \"{server}\"\ntls = \"off\"\nname = \"pc.h.test\"\n{more}");
    std::fs::write(home.join(".config/msgtrk/submit.toml"), text).unwrap();
}

fn files(home: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(home.join(".local/share/msgtrk-sent")).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

pub const MAIL: &str =
    "From: Ann <ann@a.test>\nTo: Bob <bob@b.test>\nBcc: eve@e.test\nSubject: a d\u{f6}t\nMessage-ID: <m1@a.test>\n\n.\nhello\n";

#[test]
fn as_sendmail_it_takes_recipients_from_the_header_and_keeps_the_secret_for_its_user() {
    let home = tempfile::tempdir().unwrap();
    let (server, told) = scripted(&["DSN", "MTRK", "SIZE 1000000", "8BITMIME"], "Q");
    settings(home.path(), server, "track_seconds = 86400\ntracking_server = \"track.test:1038\"\n");
    let out = run(home.path(), &["submit", "-t", "-oi", "-f", "ann@a.test", "-oem", "-bm"], MAIL);
    assert_eq!((out.status.code(), said(&out).as_str()), (Some(0), ""));
    let lines = told.lock().unwrap().clone();
    let mail = lines.iter().find(|l| l.starts_with("MAIL")).unwrap();
    assert!(
        mail.starts_with("MAIL FROM:<ann@a.test> MTRK=") && mail.contains(":86400 ENVID=") && mail.contains("@pc.h.test SIZE="),
        "{mail}"
    );
    assert!(mail.ends_with(" BODY=8BITMIME"), "{mail}");
    assert!(lines.contains(&"RCPT TO:<bob@b.test> ORCPT=rfc822;bob@b.test".to_string()));
    assert!(lines.contains(&"RCPT TO:<eve@e.test> ORCPT=rfc822;eve@e.test".to_string()));
    let content = lines.iter().find(|l| l.contains("Subject:")).unwrap();
    assert!(!content.contains("Bcc") && content.contains("Date: ") && content.ends_with("\r\n\r\n..\r\nhello\r\n"), "{content:?}");
    let files = files(home.path());
    assert_eq!(files.len(), 1);
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&files[0]), mode(files[0].parent().unwrap())), (0o600, 0o700));
    // The secret is 256 bits, its hash went to the server, and is in no listing.
    let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(&files[0]).unwrap()).unwrap();
    let secret = msgtrk::mtqp::command::Secret::from_base64(kept["secret"].as_str().unwrap()).unwrap();
    assert!(mail.contains(&secret.certifier()) && kept["secret"].as_str().unwrap().len() == 44);
    for args in [&["sent"][..], &["sent", "--json"]] {
        let out = run(home.path(), args, "");
        assert!(said(&out).contains("bob@b.test") && !said(&out).contains(kept["secret"].as_str().unwrap()), "{}", said(&out));
    }
    let envid = kept["envelope_id"].as_str().unwrap();
    let out = run(home.path(), &["sent", "url", "m1@a.test"], "");
    let uri: msgtrk::mtqp::uri::Uri = String::from_utf8(out.stdout).unwrap().trim().parse().unwrap();
    assert_eq!((uri.host.as_str(), uri.port, uri.claim.envelope_id.as_str()), ("track.test", Some(1038), envid));
    assert_eq!(uri.claim.secret, secret);
    // Again: another secret, another envelope id (RFC 3885, 3.2 and 4.2).
    assert_eq!(run(home.path(), &["submit", "-i", "bob@b.test"], "To: x\n\nagain\n").status.code(), Some(0));
    let again: Vec<_> = self::files(home.path()).iter().map(|f| std::fs::read_to_string(f).unwrap()).collect();
    assert!(again.len() == 2 && again.iter().filter(|t| t.contains(envid)).count() == 1);
    assert_eq!(run(home.path(), &["sent", "url", "nothing@x"], "").status.code(), Some(1));
}

#[test]
fn what_is_not_sent_is_said_by_sendmails_exit_codes_and_not_kept() {
    let home = tempfile::tempdir().unwrap();
    let (server, told) = scripted(&["DSN"], "Q");
    settings(home.path(), server, "");
    let code = |args: &[&str], input: &str| run(home.path(), args, input).status.code();
    assert_eq!(code(&["submit", "--mtrk", "require", "bob@b.test"], MAIL), Some(69));
    assert_eq!(code(&["submit", "-i", "bob@b.test", "refused@b.test"], MAIL), Some(67));
    assert_eq!(code(&["submit", "-t"], "Subject: to nobody\n\nx\n"), Some(64));
    assert_eq!(code(&["submit", "bob@b.test> SIZE=1"], MAIL), Some(64));
    assert_eq!(code(&["submit", "--tls", "starttls", "bob@b.test"], MAIL), Some(69));
    assert_eq!(code(&["submit", "--server", "127.0.0.1:1", "bob@b.test"], MAIL), Some(75));
    assert!(!told.lock().unwrap().iter().any(|l| l == "DATA"));
    assert!(files(home.path()).is_empty());
    // A server that does not track: sent all the same, and the list says so.
    let out = run(home.path(), &["submit", "bob@b.test"], "cron says\n.\nnot this\n");
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(told.lock().unwrap().iter().any(|l| l.ends_with("\r\n\r\ncron says\r\n")));
    assert!(said(&run(home.path(), &["sent"], "")).contains("sent, untracked"));
    assert_eq!(code(&["sent", "url", "x"], ""), Some(1));
    assert_eq!(code(&["submit", "--mtrk", "off", "bob@b.test"], MAIL), Some(0));
    assert_eq!(files(home.path()).len(), 1);
    // A password that others can read is not used, and none goes out in the clear.
    let password = home.path().join("pw");
    std::fs::write(&password, "secret\n").unwrap();
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).unwrap();
    settings(home.path(), server, &format!("user = \"ann\"\npassword_file = {password:?}\n"));
    assert!(said(&run(home.path(), &["submit", "bob@b.test"], MAIL)).contains("others can read"));
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).unwrap();
    let out = run(home.path(), &["submit", "bob@b.test"], MAIL);
    assert!(out.status.code() == Some(78) && said(&out).contains("not sent without TLS"), "{}", said(&out));
}

/// From the sender's program through the gateway and a real Postfix; the log and MTQP tell the sender what became of it.
#[test]
fn what_was_sent_is_tracked_over_mtqp_through_a_real_postfix() {
    let (relay, _) = scripted(&["DSN"], "R1");
    let Some(postfix) = Postfix::start("", Some(relay)) else { return };
    let (home, index) = (tempfile::tempdir().unwrap(), Index::new());
    let log = postfix.log();
    let daemon = Daemon::start(
        &index.dir.path().join("index"),
        &["--host", "mx1", "--watch", log.to_str().unwrap(), "--smtp", &format!("127.0.0.1:0={}", postfix.smtp), "--mtqp", "127.0.0.1:0"],
    );
    settings(home.path(), daemon.address("smtp", 0), "tracking_server = \"track.test\"\nmtrk = \"require\"\n");
    let out = run(
        home.path(),
        &["submit", "-i", "-f", "ann@a.test", "bob@local.test", "refused@relay.test", "wim@relay.test", "y@slow.test"],
        MAIL,
    );
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let resolve = format!("track.test={}", daemon.address("mtqp", 0));
    let ask = || run(home.path(), &["sent", "--refresh", "--resolve", &resolve], "");
    // It is known there, before the log told anything.
    let first = until(|| said(&ask()), |text| text.contains("bob@local.test is "));
    assert!(first.contains("bob@local.test is delayed") || first.contains("bob@local.test is delivered"), "{first}");
    postfix.settle();
    let envid = serde_json::from_slice::<serde_json::Value>(&std::fs::read(&files(home.path())[0]).unwrap()).unwrap();
    let envid = envid["envelope_id"].as_str().unwrap();
    let found = daemon.trace_until(Some(&log), envid, |v| v["records"][0].to_string().matches("\"action\":\"delayed\"").count() == 1);
    assert_eq!(found["records"].as_array().map(Vec::len), Some(1), "{found:#}");
    let mut all = first;
    let lines = ["bob@local.test is delivered", "refused@relay.test is failed", "wim@relay.test is relayed", "y@slow.test is delayed"];
    let more = || {
        all.push_str(&said(&ask()));
        lines.iter().all(|l| all.contains(l))
    };
    assert!(until(more, |is_all| *is_all), "{all}{found:#}");
    let url = String::from_utf8(run(home.path(), &["sent", "url", envid], "").stdout).unwrap();
    let tracked = run(home.path(), &["track", url.trim(), "--resolve", &resolve, "--json"], "");
    assert!(said(&tracked).contains("\"delivered\""), "{}", said(&tracked));
    drop(Client::connect(daemon.address("smtp", 0)));
}
