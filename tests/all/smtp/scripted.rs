//! The gateway before a scripted MTA.

use super::daemon::{Client, Daemon, certifier, scripted};
use std::io::Write;
use std::net::TcpListener;

const KEYWORDS: &[&str] = &["PIPELINING", "DSN", "AUTH PLAIN", "8BITMIME"];

fn submit(client: &mut Client, envid: &str, to: &[&str]) -> String {
    let b = certifier(envid.as_bytes());
    assert!(client.ask(&format!("MAIL FROM:<ann@a.test> MTRK={b}:86400 ENVID={envid}")).starts_with("250"));
    for r in to {
        assert!(client.ask(&format!("RCPT TO:<{r}> ORCPT=rfc822;{r}")).starts_with("250"));
    }
    assert!(client.ask("DATA").starts_with("354"));
    client.ask("Subject: hello\r\n\r\nworld\r\n.")
}

fn actions(found: &serde_json::Value) -> Vec<(String, String)> {
    let recipients = found["records"][0]["recipients"].as_array().cloned().unwrap_or_default();
    let mut all: Vec<(String, String)> =
        recipients.iter().map(|r| (r["original_recipient"].as_str().unwrap().into(), r["action"].as_str().unwrap().into())).collect();
    all.sort();
    all
}

#[test]
fn a_marked_message_is_known_at_once_and_the_log_tells_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let (backend, told) = scripted(KEYWORDS, "A1B2C");
    let daemon = Daemon::start(
        &dir.path().join("index"),
        &["--host", "mx1", "--watch", log.to_str().unwrap(), "--smtp", &format!("127.0.0.1:0={backend}")],
    );
    let mut client = Client::connect(daemon.address("smtp", 0));
    assert!(client.reply().starts_with("220 scripted.test"));
    let hello = client.ask("EHLO c.test");
    assert!(hello.contains("250 MTRK") && !hello.contains("AUTH"), "{hello}");
    let said = submit(&mut client, "1@h.test", &["bob@b.test", "eve@b.test"]);
    let queue_id = said.trim_end().rsplit(' ').next().unwrap().to_string();
    assert!(told.lock().unwrap().contains(&"MAIL FROM:<ann@a.test> ENVID=1@h.test".to_string()));
    // Nothing was logged yet: it lies there.
    let found = daemon.trace("1@h.test");
    assert_eq!(actions(&found), [("bob@b.test".into(), "delayed".into()), ("eve@b.test".into(), "delayed".into())], "{found:#}");
    assert_eq!((&found["records"][0]["queue_id"], &found["records"][0]["reporting_mta"]), (&queue_id.as_str().into(), &"mx1".into()));
    assert_eq!(found["records"][0]["envelope_from"], "ann@a.test");
    // What the MTA logged before it answered, and what comes then. The id is a short one, which comes back.
    let stamp = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6f+00:00");
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
    let before = (chrono::Utc::now() - chrono::Duration::seconds(5)).format("%Y-%m-%dT%H:%M:%S%.6f+00:00");
    writeln!(file, "{before} mx1 postfix/smtpd[77]: {queue_id}: client=c.test[192.0.2.7]").unwrap();
    writeln!(file, "{before} mx1 postfix/qmgr[78]: {queue_id}: from=<ann@a.test>, size=300, nrcpt=2 (queue active)").unwrap();
    writeln!(file, "{stamp} mx1 postfix/smtp[79]: {queue_id}: to=<bob@b.test>, relay=mx.b.test[192.0.2.9]:25, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 99)").unwrap();
    let one = |v: &serde_json::Value| v["records"].as_array().is_some_and(|r| r.len() == 1) && actions(v).iter().any(|a| a.1 == "relayed");
    let found = daemon.trace_until(Some(&log), "1@h.test", one);
    assert_eq!(actions(&found), [("bob@b.test".into(), "relayed".into()), ("eve@b.test".into(), "delayed".into())], "{found:#}");
    // An alias without a word about the name that was sent to: no ghost stays behind.
    writeln!(file, "{stamp} mx1 postfix/smtp[79]: {queue_id}: to=<evelyn@c.test>, relay=mx.c.test[192.0.2.9]:25, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 Ok)").unwrap();
    writeln!(file, "{stamp} mx1 postfix/qmgr[78]: {queue_id}: removed").unwrap();
    let found = daemon.trace_until(Some(&log), "1@h.test", |v| v["records"][0]["closed"] == true);
    assert_eq!(actions(&found), [("bob@b.test".into(), "relayed".into()), ("evelyn@c.test".into(), "relayed".into())], "{found:#}");
    daemon.stop();
}

#[test]
fn what_was_noted_is_stored_when_the_daemon_ends() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let (backend, _) = scripted(KEYWORDS, "B1B2C");
    let index = dir.path().join("index");
    let args = ["--watch", log.to_str().unwrap(), "--smtp", &format!("127.0.0.1:0={backend}")];
    let daemon = Daemon::start(&index, &args);
    let mut client = Client::connect(daemon.address("smtp", 0));
    client.reply();
    client.ask("EHLO c.test");
    submit(&mut client, "2@h.test", &["bob@b.test"]);
    daemon.stop();
    let daemon = Daemon::start(&index, &args);
    assert_eq!(actions(&daemon.trace("2@h.test")), [("bob@b.test".to_string(), "delayed".to_string())]);
}

#[test]
fn without_a_backend_the_client_is_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start(&dir.path().join("index"), &["--watch", log.to_str().unwrap(), "--smtp", &format!("127.0.0.1:0={nobody}")]);
    let mut client = Client::connect(daemon.address("smtp", 0));
    assert!(client.reply().starts_with("421 4.3.2 "));
    assert_eq!(client.reply(), "");
}

/// BAR N3: one address takes 50 connections, no more; what is closed makes room.
#[test]
fn connections_are_bounded_and_room_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let (backend, _) = scripted(KEYWORDS, "C1");
    let daemon = Daemon::start(&dir.path().join("index"), &["--watch", log.to_str().unwrap(), "--smtp", &format!("127.0.0.1:0={backend}")]);
    let mut held: Vec<Client> = (0..50).map(|_| Client::connect(daemon.address("smtp", 0))).collect();
    assert!(held.iter_mut().all(|c| c.reply().starts_with("220")));
    assert!(Client::connect(daemon.address("smtp", 0)).reply().starts_with("421 4.7.0"));
    assert!(held.pop().unwrap().ask("QUIT").starts_with("221"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(Client::connect(daemon.address("smtp", 0)).reply().starts_with("220"));
}

/// STARTTLS with bytes behind it in one segment (BAR N1), and a session within TLS.
#[test]
fn starttls_is_done_by_the_gateway_and_auth_shown_within() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["gw.test".into()]).unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (backend, told) = scripted(KEYWORDS, "D1D2D");
    let config = dir.path().join("c.toml");
    let listen =
        |tls: &str| format!("[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{backend}\"\ntls = \"{tls}\"\nhost = \"mx9\"\n");
    let text = format!("[smtp]\ncertificate = {certificate:?}\nkey = {key:?}\n{}{}", listen("starttls"), listen("implicit"));
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&dir.path().join("index"), &["--config", config.to_str().unwrap(), "--watch", log.to_str().unwrap()]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for n in [0, 1] {
        let mut client = Client::connect(daemon.address("smtp", n));
        if n == 0 {
            client.reply();
            assert!(client.ask("EHLO c.test").contains("250-STARTTLS"));
            client.send(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n");
            assert!(client.reply().starts_with("220 2.0.0"));
        }
        let connection = rustls::ClientConnection::new(std::sync::Arc::new(tls.clone()), "gw.test".try_into().unwrap()).unwrap();
        let mut secure = rustls::StreamOwned::new(connection, client.stream.try_clone().unwrap());
        let read = |secure: &mut rustls::StreamOwned<_, _>, until: &str| {
            let mut text = String::new();
            let mut byte = [0];
            while !text.ends_with(until) && std::io::Read::read(secure, &mut byte).is_ok_and(|n| n > 0) {
                text.push(char::from(byte[0]));
            }
            text
        };
        if n == 1 {
            read(&mut secure, "ESMTP\r\n");
        }
        secure.write_all(b"EHLO c.test\r\n").unwrap();
        let hello = read(&mut secure, "MTRK\r\n");
        assert!(hello.contains("250-AUTH PLAIN") && !hello.contains("STARTTLS"), "{hello}");
        let mail = format!("MAIL FROM:<a@a.test> MTRK={} ENVID=tls{n}@h.test\r\nRCPT TO:<b@b.test>\r\nDATA\r\n", certifier(b"x"));
        secure.write_all(mail.as_bytes()).unwrap();
        read(&mut secure, "354 go on\r\n");
        secure.write_all(b"x\r\n.\r\n").unwrap();
        assert!(read(&mut secure, "\r\n").starts_with("250 "));
        assert_eq!(daemon.trace(&format!("tls{n}@h.test"))["records"][0]["reporting_mta"], "mx9");
    }
    assert!(!told.lock().unwrap().iter().any(|l| l.contains("evil")));
}

#[test]
fn a_backend_that_speaks_tls_is_verified_unless_the_config_says_otherwise() {
    let (mta, told) = scripted(&["DSN"], "T");
    let dir = tempfile::tempdir().unwrap();
    let quiet = dir.path().join("empty.log");
    std::fs::write(&quiet, "").unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, key) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let serve = |name: &str, text: String| {
        let config = dir.path().join(format!("{name}.toml"));
        std::fs::write(&config, text).unwrap();
        Daemon::start(&dir.path().join(name), &["--config", config.to_str().unwrap(), "--watch", quiet.to_str().unwrap()])
    };
    let listen = "[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\n";
    let secure = format!("[smtp]\ncertificate = {certificate:?}\nkey = {key:?}\n{listen}tls = \"implicit\"\nbackend = \"{mta}\"\n");
    let behind = serve("behind", secure);
    let port = behind.address("smtp", 0).port();
    let backend = |more: &str| format!("{listen}backend = \"tls://localhost:{port}\"\n{more}");
    let all = [backend(&format!("backend_ca = {certificate:?}\n")), backend("verify_backend = false\n"), backend("")].concat();
    let before = serve("before", all);
    for n in 0..2 {
        let mut c = Client::connect(before.address("smtp", n));
        assert!(c.reply().starts_with("220 scripted.test"));
        assert!(c.ask("EHLO c.test").contains("MTRK"));
        c.ask(&format!("MAIL FROM:<a@a.test> MTRK={} ENVID=b{n}@h.test", certifier(b"x")));
        c.ask("RCPT TO:<b@b.test>");
        c.ask("DATA");
        assert!(c.ask("x\r\n.").contains("queued as T"), "{n}");
        assert_eq!(before.trace(&format!("b{n}@h.test"))["records"].as_array().map(Vec::len), Some(1));
    }
    let taken = told.lock().unwrap().len();
    // Signed by nobody that is known here: nothing is said to it.
    let mut c = Client::connect(before.address("smtp", 2));
    assert!(c.reply().starts_with("421 4."));
    assert_eq!(told.lock().unwrap().len(), taken);
}
