//! A daemon as a process, with a folder of its own; what the tests of it share.

use crate::support::Index;
use std::fs::OpenOptions;
use std::hash::{Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Nothing that a daemon is to do takes longer, on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// A folder with logs, an index, and perhaps a daemon.
pub struct Place {
    pub index: Index,
    pub daemon: Option<Child>,
    pub ready: String,
    /// The user that the program runs as, if not this one.
    pub uid: Option<u32>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program: the one built with the tests, or what `MSGTRK_BIN` names (an optimised one, for long runs).
pub fn program() -> std::ffi::OsString {
    std::env::var_os("MSGTRK_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_msgtrk").into())
}

/// [`LONG`], or as many seconds as `MSGTRK_LONG` says: what piled up in a long run takes longer to read.
pub fn long() -> Duration {
    std::env::var("MSGTRK_LONG").ok().and_then(|v| v.parse().ok()).map_or(LONG, Duration::from_secs)
}

pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < long(), "not within {:?}: {what}", long());
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Place {
    pub fn new() -> Self {
        Place { index: Index::new(), daemon: None, ready: String::new(), uid: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.index.dir.path().join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.env("TZ", "UTC").arg("--index").arg(self.path("index")).args(args);
        if let Some(uid) = self.uid {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts a daemon and waits until it says that it is ready.
    pub fn serve(&mut self, args: &[&str]) {
        let mut child = self.command(&["serve"]).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        self.ready.clear();
        out.read_line(&mut self.ready).unwrap();
        self.daemon = Some(child);
        assert!(self.ready.starts_with("ready"), "{:?}", self.ready);
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.daemon.as_ref().unwrap().id();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
    }

    /// The trace of an id as JSON, once there is one that meets a condition.
    pub fn trace(&self, id: &str, what: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        eventually(&format!("trace of {id}"), || {
            let out = self.run(&["trace", id, "--json"]);
            serde_json::from_slice(&out.stdout).ok().filter(&what)
        })
    }

    /// A hash of each record and its lines, in order, as the program tells them: a million are compared in a minute or two.
    pub fn hashes(&self) -> Vec<u64> {
        let args = ["search", "--limit", "0", "--json", "--lines"];
        let mut child = self.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let hash = |line: Vec<u8>| {
            let mut hasher = std::hash::DefaultHasher::new();
            line.hash(&mut hasher);
            hasher.finish()
        };
        let mut all: Vec<u64> = BufReader::new(child.stdout.take().unwrap()).split(b'\n').map(|line| hash(line.unwrap())).collect();
        assert!(child.wait().unwrap().success());
        all.sort_unstable();
        all
    }

    pub fn records(&self) -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = self.index.records().into_iter().map(|r| (r.key, r.events)).collect();
        all.sort();
        all
    }
}

pub fn append(path: &Path, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The lines of message `n`, one stage each: it comes, is put off, is delivered.
pub fn message(n: usize) -> [String; 3] {
    let id = format!("4AB{n:07}zGHJK");
    let at = |s: usize| format!("2026-03-02T08:{:02}:{:02}.{:06}+00:00 mx1 postfix", (n / 60) % 60, n % 60, s);
    [
        format!(
            "{} /smtpd[1]: {id}: client=c.test[192.0.2.1]\n{} /cleanup[2]: {id}: message-id=<m{n}@c.test>\n{} /qmgr[3]: {id}: from=<a@c.test>, size=900, nrcpt=1 (queue active)\n",
            at(1), at(2), at(3)
        )
        .replace("postfix /", "postfix/"),
        format!(
            "{} /smtp[4]: {id}: to=<r{n}@d.test>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred (connect to d.test[192.0.2.9]:25: Connection refused)\n",
            at(4)
        )
        .replace("postfix /", "postfix/"),
        format!(
            "{} /smtp[4]: {id}: to=<r{n}@d.test>, relay=d.test[192.0.2.9]:25, delay=2, delays=0/0/1/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9F{n})\n{} /qmgr[3]: {id}: removed\n",
            at(5), at(6)
        )
        .replace("postfix /", "postfix/"),
    ]
}

pub fn action(trace: &serde_json::Value) -> &str {
    trace["recipients"][0]["action"].as_str().unwrap_or_default()
}

pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

pub fn address(ready: &str, what: &str) -> String {
    let word = ready.split_whitespace().find_map(|w| w.strip_prefix(&format!("{what}=")));
    word.unwrap_or_else(|| panic!("no {what} in {ready}")).to_string()
}
