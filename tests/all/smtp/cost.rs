//! What the gateway costs: `smtp-source` against Postfix, bare and through the gateway, turn by turn in one run.
//! `cargo test --release --test all -- --ignored --nocapture smtp::cost`

use super::daemon::{Client, Daemon};
use super::postfix::Postfix;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

const MESSAGES: u32 = 1_000;
const TURNS: usize = 5;

fn source(to: SocketAddr, more: &[&str]) -> Duration {
    let begun = Instant::now();
    let (port, count) = (format!("{}:{}", to.ip(), to.port()), MESSAGES.to_string());
    let args = ["-s", "10", "-m", &count, "-l", "4000", "-f", "ann@a.test", "-t", "bob@gone.test"];
    let out = Command::new("smtp-source").args(more).args(args).arg(port).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    begun.elapsed()
}

/// The time from a command to its reply, the median of many.
fn latency(to: SocketAddr) -> Duration {
    let mut c = Client::connect(to);
    c.reply();
    c.ask("EHLO c.test");
    let mut all: Vec<Duration> = (0..2_000)
        .map(|_| {
            let begun = Instant::now();
            c.ask("NOOP");
            begun.elapsed()
        })
        .collect();
    all.sort();
    all[all.len() / 2]
}

fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    f64::from(MESSAGES) / all[all.len() / 2].as_secs_f64()
}

#[test]
#[ignore = "takes minutes, and wants a release build and a quiet machine"]
fn messages_a_second_beside_the_bare_backend() {
    let Some(postfix) = Postfix::start("", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    let text = format!(
        "[smtp]\nmax_connections_per_address = 500\n[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{}\"\nhost = \"mx1\"\n",
        postfix.smtp
    );
    std::fs::write(&config, text).unwrap();
    let quiet = dir.path().join("empty.log");
    std::fs::write(&quiet, "").unwrap();
    let daemon = Daemon::start(&dir.path().join("index"), &["--config", config.to_str().unwrap(), "--watch", quiet.to_str().unwrap()]);
    let gateway = daemon.address("smtp", 0);
    for (what, more) in [("a connection a message", vec![]), ("ten connections in all", vec!["-d"])] {
        let (mut bare, mut through) = (vec![], vec![]);
        for _ in 0..TURNS {
            bare.push(source(postfix.smtp, &more));
            postfix.settle();
            through.push(source(gateway, &more));
            postfix.settle();
        }
        let (bare, through) = (median(bare), median(through));
        eprintln!("{what}: {bare:.0}/s bare, {through:.0}/s through the gateway, {:.1} %", through / bare * 100.0);
        assert!(through / bare > 0.5, "much slower than it was");
    }
    let (bare, through) = (latency(postfix.smtp), latency(gateway));
    eprintln!("a command and its reply: {bare:?} bare, {through:?} through the gateway");
}
