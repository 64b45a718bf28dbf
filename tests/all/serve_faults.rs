//! What goes wrong around a daemon: it says so, goes on with everything else, and recovers by itself.

use crate::serve_support::{Place, action, address, append, eventually, message};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

fn status(p: &Place) -> (Option<i32>, serde_json::Value) {
    let out = p.run(&["status", "--json"]);
    (out.status.code(), serde_json::from_slice(&out.stdout).unwrap_or_default())
}

/// What is wrong with the source of this path, once something is.
fn problem(p: &Place, path: &Path) -> String {
    eventually(&format!("a problem of {}", path.display()), || {
        let (code, s) = status(p);
        let found = s["sources"].as_array()?.iter().find(|x| x["name"] == path.to_str().unwrap())?["problem"].as_str()?.to_string();
        assert_eq!(code, Some(2), "a problem makes the exit status: {s}");
        Some(found)
    })
}

fn well(p: &Place) -> serde_json::Value {
    eventually("all well", || Some(status(p)).filter(|(code, _)| *code == Some(0)).map(|(_, s)| s))
}

fn metrics(p: &Place) -> String {
    let mut http = std::net::TcpStream::connect(address(&p.ready, "metrics")).unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    http.read_to_string(&mut text).unwrap();
    text
}

/// Ends the daemon and holds its index against a backfill of all that was written.
fn same_as_backfill(p: &mut Place, written: &str) {
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    let other = Place::new();
    append(&other.path("whole.log"), written);
    assert!(other.run(&["backfill", other.path("whole.log").to_str().unwrap()]).status.success());
    let (mine, theirs) = (p.records(), other.records());
    assert_eq!(mine.len(), theirs.len());
    assert!(mine == theirs, "records differ from a backfill's");
}

/// A small file system, as long as it lives.
struct Small(PathBuf);

impl Small {
    /// `None` where it may not be mounted.
    fn mount(at: &Path, size: &str) -> Option<Small> {
        std::fs::create_dir_all(at).unwrap();
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output().ok()?;
        done.status.success().then(|| Small(at.into()))
    }

    /// Takes what room there is.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_it_answers_and_says_so_and_stores_all_when_there_is_room() {
    let mut p = Place::new();
    let Some(small) = Small::mount(&p.path("index"), "24m") else {
        eprintln!("skipped: a file system of its own can be mounted by root only");
        return;
    };
    let log = p.path("mail.log");
    let mut written = String::new();
    let mut write = |text: String| {
        append(&log, &text);
        written.push_str(&text);
    };
    write((0..50).map(|n| message(n).concat()).collect());
    p.serve(&["--watch", log.to_str().unwrap(), "--metrics", "127.0.0.1:0"]);
    p.trace("m49@c.test", |t| action(t) == "relayed");
    eventually("stored", || (status(&p).1["records"] == 50).then_some(()));
    let filler = small.fill();
    let [came, put_off, sent] = message(50);
    write(came);
    let s = eventually("the commit fails", || {
        let (code, s) = status(&p);
        s["commit_problem"].is_string().then_some(s).inspect(|s| assert_eq!(code, Some(2), "{s}"))
    });
    assert!(s["commit_errors"].as_u64() > Some(0), "{s}");
    assert!(s["commit_problem"].as_str().unwrap().contains("index"), "it says where: {s}");
    let figures = metrics(&p);
    assert!(figures.contains("\nmsgtrk_commit_failing 1\n"), "{figures}");
    // What is stored and what is only read are both answered.
    p.trace("m3@c.test", |t| action(t) == "relayed");
    write(put_off);
    p.trace("m50@c.test", |t| action(t) == "delayed");
    // Work of others is refused with the reason, and does not wait.
    let old = p.path("old.log");
    append(&old, &message(60).concat());
    let refused = p.run(&["backfill", old.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    write(sent + &(51..55).map(|n| message(n).concat()).collect::<String>());
    std::fs::remove_file(&filler).unwrap();
    well(&p);
    p.trace("m54@c.test", |t| action(t) == "relayed");
    eventually("search", || (p.run(&["search", "--to", "r54@d.test"]).status.code() == Some(0)).then_some(()));
    let figures = metrics(&p);
    assert!(figures.contains("\nmsgtrk_commit_failing 0\n"), "{figures}");
    // Killed and started again while it is full: the lines are still in the log.
    let filler = small.fill();
    let more: String = (55..60).map(|n| message(n).concat()).collect();
    append(&log, &more);
    written.push_str(&more);
    p.trace("m59@c.test", |t| action(t) == "relayed");
    p.kill();
    p.serve(&["--watch", log.to_str().unwrap()]);
    p.trace("m59@c.test", |t| action(t) == "relayed");
    p.trace("m3@c.test", |t| action(t) == "relayed");
    eventually("the commit fails", || (status(&p).0 == Some(2)).then_some(()));
    // An end is soon, though nothing can be stored.
    let begun = Instant::now();
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    p.serve(&["--watch", log.to_str().unwrap()]);
    std::fs::remove_file(&filler).unwrap();
    well(&p);
    p.trace("m59@c.test", |t| action(t) == "relayed");
    same_as_backfill(&mut p, &written);
}

/// Nobody in particular; root reads what it wants, permission or not.
const NOBODY: u32 = 65534;

#[test]
fn a_log_that_may_not_be_read_is_named_and_read_once_it_may() {
    let mut p = Place::new();
    let (log, other) = (p.path("mail.log"), p.path("other.log"));
    let mut written = message(0).concat();
    append(&log, &written);
    append(&other, &message(100).concat());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(p.index.dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let can = Command::new(crate::serve_support::program()).arg("--version").uid(NOBODY).gid(NOBODY).output();
        if !can.is_ok_and(|out| out.status.success()) {
            eprintln!("skipped: root reads everything, and the program cannot be run as another user from here");
            return;
        }
        p.uid = Some(NOBODY);
    }
    let may = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    p.serve(&["--watch", log.to_str().unwrap(), other.to_str().unwrap()]);
    p.trace("m0@c.test", |t| action(t) == "relayed");
    // Rotated into a file that another user made for himself.
    append(&log, &message(1).concat());
    written.push_str(&message(1).concat());
    std::fs::rename(&log, p.path("mail.log.1")).unwrap();
    append(&log, &message(2).concat());
    written.push_str(&message(2).concat());
    may(&log, 0o000);
    p.trace("m1@c.test", |t| action(t) == "relayed");
    let why = problem(&p, &log);
    assert!(why.contains(log.to_str().unwrap()) && why.to_lowercase().contains("permission denied"), "{why}");
    append(&other, &message(101).concat());
    p.trace("m101@c.test", |t| action(t) == "relayed");
    assert_eq!(p.run(&["trace", "m2@c.test"]).status.code(), Some(1));
    may(&log, 0o644);
    p.trace("m2@c.test", |t| action(t) == "relayed");
    well(&p);
    // The folder, too.
    let folder = p.path("logs");
    std::fs::create_dir(&folder).unwrap();
    let inner = folder.join("mail.log");
    append(&inner, &message(3).concat());
    written.push_str(&message(3).concat());
    p.kill();
    may(&folder, 0o000);
    p.serve(&["--watch", log.to_str().unwrap(), other.to_str().unwrap(), inner.to_str().unwrap()]);
    eventually("status says so", || (status(&p).0 == Some(2)).then_some(()));
    append(&other, &message(102).concat());
    p.trace("m102@c.test", |t| action(t) == "relayed");
    may(&folder, 0o755);
    p.trace("m3@c.test", |t| action(t) == "relayed");
    well(&p);
    written.extend((100..103).map(|n| message(n).concat()));
    same_as_backfill(&mut p, &written);
}

fn report(n: usize) -> String {
    format!(
        "From: MAILER-DAEMON@d.test\r\nTo: a@c.test\r\nSubject: failure\r\nDate: Mon, 02 Mar 2026 08:10:00 +0000\r\nMessage-ID: <dsn{n}@d.test>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=\"b\"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nNo.\r\n\
        --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; d.test\r\nArrival-Date: Mon, 02 Mar 2026 08:00:05 +0000\r\n\r\n\
        Final-Recipient: rfc822; r{n}@d.test\r\nAction: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user\r\n\r\n\
        --b\r\nContent-Type: text/rfc822-headers\r\n\r\nMessage-ID: <m{n}@c.test>\r\nFrom: a@c.test\r\nTo: r{n}@d.test\r\n\r\n--b--\r\n"
    )
}

/// The trace of a message of which a report came.
fn reported(p: &Place, n: usize) -> serde_json::Value {
    p.trace(&format!("m{n}@c.test"), |t| t["recipients"][0]["reported"].as_array().is_some_and(|r| !r.is_empty()))
}

#[test]
fn a_maildir_that_goes_and_comes_back_is_read_on() {
    let mut p = Place::new();
    let (log, bounces, away) = (p.path("mail.log"), p.path("bounces"), p.path("away"));
    ["new", "cur", "tmp"].iter().for_each(|part| std::fs::create_dir_all(bounces.join(part)).unwrap());
    append(&log, &(1..5).map(|n| message(n).concat()).collect::<String>());
    std::fs::write(bounces.join("new/1.x"), report(1)).unwrap();
    p.serve(&["--watch", log.to_str().unwrap(), "--dsn", bounces.to_str().unwrap()]);
    reported(&p, 1);
    std::fs::rename(&bounces, &away).unwrap();
    let why = problem(&p, &bounces);
    assert!(why.contains("bounces"), "{why}");
    append(&log, &message(5).concat());
    p.trace("m5@c.test", |t| action(t) == "relayed");
    std::fs::write(away.join("new/2.x"), report(2)).unwrap();
    std::fs::rename(away.join("new/1.x"), away.join("cur/1.x:2,S")).unwrap();
    std::fs::rename(&away, &bounces).unwrap();
    for n in 1..3 {
        let t = reported(&p, n);
        assert_eq!(t["recipients"][0]["reported"].as_array().unwrap().len(), 1, "once: {t}");
    }
    well(&p);
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    // One record a report, one a message; read again after a restart neither is doubled.
    let before = p.records();
    p.serve(&["--watch", log.to_str().unwrap(), "--dsn", bounces.to_str().unwrap()]);
    std::fs::write(bounces.join("new/3.x"), report(3)).unwrap();
    reported(&p, 3);
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    let after = p.records();
    assert!(before.iter().all(|b| after.contains(b)), "what was known of the first two has not changed");
}

/// Writes messages until told to stop; what was written.
fn write_until(done: &AtomicBool, log: &Path) -> (String, usize) {
    let (mut all, mut n) = (String::new(), 0);
    while !done.load(Relaxed) {
        let lines: String = (n..n + 20).map(|n| message(n).concat()).collect();
        append(log, &lines);
        all.push_str(&lines);
        n += 20;
        std::thread::sleep(Duration::from_millis(30));
    }
    (all, n)
}

#[test]
fn signals_under_load_lose_nothing_and_an_end_is_soon() {
    let mut p = Place::new();
    let (log, config) = (p.path("mail.log"), p.path("msgtrk.toml"));
    append(&log, "");
    std::fs::write(&config, format!("[[watch]]\npath = {log:?}\n")).unwrap();
    let done = AtomicBool::new(false);
    let (text, messages) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_until(&done, &log));
        p.serve(&["--config", config.to_str().unwrap()]);
        for round in 0..15 {
            std::thread::sleep(Duration::from_millis(40 + 37 * (round % 5)));
            p.signal("HUP");
        }
        let begun = Instant::now();
        p.signal("TERM");
        assert!(p.daemon.take().unwrap().wait().unwrap().success());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        p.serve(&["--config", config.to_str().unwrap()]);
        std::thread::sleep(Duration::from_millis(300));
        done.store(true, Relaxed);
        writer.join().unwrap()
    });
    p.trace(&format!("m{}@c.test", messages - 1), |t| action(t) == "relayed");
    same_as_backfill(&mut p, &text);
}
