//! The gateway behind an MTA, and both together.

use super::daemon::{Client, Daemon, Told, certifier, scripted};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

const PLAIN: &[&str] = &["PIPELINING", "8BITMIME"];
const DSN: &[&str] = &["DSN", "SIZE 1000000", "SMTPUTF8"];
const MTRK: &[&str] = &["DSN", "MTRK"];

struct Site {
    daemon: Daemon,
    plain: Told,
    dsn: Told,
    mtrk: Told,
    _dir: tempfile::TempDir,
}

/// A site with a gateway on both sides of its MTA; next hosts by recipient domain.
fn site() -> Site {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("mail.log");
    std::fs::write(&log, "").unwrap();
    let (mta, _) = scripted(DSN, "AAAA1");
    let ((plain_at, plain), (dsn_at, dsn), (mtrk_at, mtrk)) = (scripted(PLAIN, "P"), scripted(DSN, "D"), scripted(MTRK, "M"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{mta}\"\n[smtp.out]\nlisten = \"127.0.0.1:0\"\n[smtp.out.routes]\n\"plain.test\" = \"{plain_at}\"\n\"dsn.test\" = \"{dsn_at}\"\n\"mtrk.test\" = \"{mtrk_at}\"\n\"down.test\" = \"{nobody}\"\n\"*\" = \"{mtrk_at}\"\n"
    );
    let config = dir.path().join("c.toml");
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&dir.path().join("index"), &["--config", path(&config), "--watch", path(&log)]);
    Site { daemon, plain, dsn, mtrk, _dir: dir }
}

fn path(p: &Path) -> &str {
    p.to_str().unwrap()
}

fn greeted(to: SocketAddr) -> Client {
    let mut c = Client::connect(to);
    c.reply();
    assert!(c.ask("EHLO mta.test").starts_with("250"));
    c
}

/// A message comes in; the MTA hands it on.
fn comes_in(site: &Site, envid: &str, timeout: &str, to: &[&str]) {
    let mut c = greeted(site.daemon.address("smtp", 0));
    assert!(c.ask(&format!("MAIL FROM:<ann@a.test> MTRK={}{timeout} ENVID={envid}", certifier(envid.as_bytes()))).starts_with("250"));
    for r in to {
        c.ask(&format!("RCPT TO:<{r}>"));
    }
    c.ask("DATA");
    assert!(c.ask("x\r\n.").contains("queued as AAAA1"));
}

fn lines_with(told: &Told, word: &str) -> Vec<String> {
    told.lock().unwrap().iter().filter(|l| l.starts_with(word)).cloned().collect()
}

#[test]
fn rfc3885_3_3_the_mark_goes_along_to_a_host_that_tracks_with_what_is_left_of_its_time() {
    let site = site();
    comes_in(&site, "1@h.test", ":1000", &["bob@mtrk.test", "bob@plain.test", "bob@dsn.test"]);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let mut c = greeted(site.daemon.address("smtp-out", 0));
    let hello = |c: &mut Client, rest: &str| c.ask(&format!("MAIL FROM:<ann@a.test> ENVID=1@h.test RET=HDRS SIZE=5{rest}"));
    assert!(hello(&mut c, "").starts_with("250"));
    assert_eq!(c.ask("RCPT TO:<bob@mtrk.test> ORCPT=rfc822;bob@mtrk.test NOTIFY=NEVER"), "250 2.0.0 Ok\r\n");
    // One recipient domain a transaction.
    assert!(c.ask("RCPT TO:<bob@dsn.test>").starts_with("452 4.5.3"));
    c.ask("DATA");
    assert!(c.ask("..x\r\n.").contains("queued as M"), "the next host's own words");
    let mail = lines_with(&site.mtrk, "MAIL").remove(0);
    let (head, left) = mail.rsplit_once(':').unwrap();
    assert_eq!(head, format!("MAIL FROM:<ann@a.test> ENVID=1@h.test RET=HDRS MTRK={}", certifier(b"1@h.test")));
    assert!((900..1000).contains(&left.parse::<u32>().unwrap()), "{left}");
    assert_eq!(lines_with(&site.mtrk, "RCPT"), ["RCPT TO:<bob@mtrk.test> ORCPT=rfc822;bob@mtrk.test NOTIFY=NEVER"]);
    assert!(site.mtrk.lock().unwrap().contains(&"..x\r\n".to_string()));
    // 3.3: no MTRK for who does not track; ENVID and ORCPT for who offers DSN, nothing of either for who does not.
    hello(&mut c, "");
    c.ask("RCPT TO:<bob@dsn.test> ORCPT=rfc822;bob@dsn.test");
    c.ask("DATA");
    c.ask("x\r\n.");
    assert_eq!(lines_with(&site.dsn, "MAIL"), ["MAIL FROM:<ann@a.test> ENVID=1@h.test RET=HDRS SIZE=5"]);
    hello(&mut c, " BODY=8BITMIME");
    c.ask("RCPT TO:<bob@plain.test> ORCPT=rfc822;bob@plain.test NOTIFY=NEVER");
    c.ask("DATA");
    c.ask("x\r\n.");
    assert_eq!(lines_with(&site.plain, "MAIL"), ["MAIL FROM:<ann@a.test> BODY=8BITMIME"]);
    assert_eq!(lines_with(&site.plain, "RCPT"), ["RCPT TO:<bob@plain.test>"]);
    // Whether the next host tracks is noted at the record.
    let noted = site.daemon.trace("1@h.test").to_string();
    assert!(
        noted.contains("handed bob@mtrk.test to scripted.test, which tracks: yes")
            && noted.contains("handed bob@dsn.test to scripted.test, which tracks: no"),
        "{noted}"
    );
}

#[test]
fn rfc3885_3_3_no_mark_for_an_alias_a_list_or_a_message_that_is_not_known() {
    let site = site();
    comes_in(&site, "2@h.test", ":1000", &["bob@mtrk.test", "team@a.test"]);
    comes_in(&site, "3@h.test", ":1", &["bob@mtrk.test"]);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let mut c = greeted(site.daemon.address("smtp-out", 0));
    let mut sent = |mail: &str, to: &str| {
        assert!(c.ask(mail).starts_with("250"));
        let said = c.ask(&format!("RCPT TO:<{to}>"));
        assert!(said.starts_with("250"), "{said}");
        c.ask("DATA");
        assert!(c.ask("x\r\n.").starts_with("250"));
    };
    sent("MAIL FROM:<ann@a.test> ENVID=2@h.test", "member@mtrk.test");
    sent("MAIL FROM:<owner-list@a.test> ENVID=2@h.test", "bob@mtrk.test");
    sent("MAIL FROM:<ann@a.test> ENVID=other@h.test", "bob@mtrk.test");
    sent("MAIL FROM:<ann@a.test>", "bob@mtrk.test");
    // Its second is over.
    sent("MAIL FROM:<ann@a.test> ENVID=3@h.test", "bob@mtrk.test");
    assert!(!lines_with(&site.mtrk, "MAIL").iter().any(|l| l.contains("MTRK")), "{:?}", site.mtrk);
    // In one transaction with a recipient that takes it along, one that must not comes again.
    c.ask("MAIL FROM:<ann@a.test> ENVID=2@h.test");
    assert!(c.ask("RCPT TO:<bob@mtrk.test>").starts_with("250"));
    assert!(c.ask("RCPT TO:<member@mtrk.test>").starts_with("452 4.5.3"));
    c.ask("RSET");
    assert!(lines_with(&site.mtrk, "MAIL").last().unwrap().contains("MTRK="));
}

#[test]
fn while_no_host_answers_the_mta_keeps_the_message() {
    let site = site();
    let mut c = greeted(site.daemon.address("smtp-out", 0));
    assert!(c.ask("DATA").starts_with("554"));
    assert!(c.ask("RCPT TO:<a@b.test>").starts_with("503"));
    assert!(c.ask("MAIL FROM:<ann@a.test> MTRK=x ENVID=1@h").starts_with("501 5.5.4"));
    assert!(c.ask("MAIL FROM:<ann@a.test>").starts_with("250"));
    assert!(c.ask("MAIL FROM:<ann@a.test>").starts_with("503"));
    assert!(c.ask("RCPT TO:<bob@down.test>").starts_with("451 4.4.1"));
    assert!(c.ask("RCPT TO:<refused@dsn.test>").starts_with("550 5.1.1"));
    assert!(c.ask("RCPT TO:<postmaster>").starts_with("550 5.1.3"));
    assert!(c.ask("DATA").starts_with("554"));
    assert!(c.ask("RSET").starts_with("250"));
    assert!(c.ask("MAIL FROM:<ann@a.test> SMTPUTF8").starts_with("250"));
    assert!(c.ask("RCPT TO:<bob@plain.test>").starts_with("553 5.6.7"));
    c.ask("RSET");
    c.ask("MAIL FROM:<ann@a.test>");
    c.ask("RCPT TO:<bob@dsn.test>");
    c.ask("DATA");
    assert!(c.ask("x\n.\r\nMAIL FROM:<evil@x.test>\r\n.").starts_with("550 5.5.2"));
    assert!(!site.dsn.lock().unwrap().iter().any(|l| l.contains("evil")));
    assert_eq!(site.dsn.lock().unwrap().last().unwrap(), "DATA");
}
