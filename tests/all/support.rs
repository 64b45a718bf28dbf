//! What all tests share: an index in a temporary folder, filled in process or by the program.

use msgtrk::config::Site;
use msgtrk::ingest::backfill::{BUDGET, Options, Progress, Summary, backfill};
use msgtrk::ingest::commit::Committer;
use msgtrk::model::journey::{Journey, trace};
use msgtrk::model::query::Query;
use msgtrk::model::record::StoredRecord;
use msgtrk::parse::Parsers;
use msgtrk::store::{Store, StoreError};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Progress that nobody watches, which stops the run when so many files were begun.
struct Stopper<'a> {
    stop: &'a AtomicBool,
    left: AtomicUsize,
}

impl Progress for Stopper<'_> {
    fn total(&self, _: u64) {}
    fn file(&self, _: &Path) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.store(true, Ordering::Relaxed);
        }
    }
    fn position(&self, _: u64) {}
    fn problem(&self, _: &str) {}
}

/// The writer of a store. A process that another test is just starting may hold the lock for a moment: it inherits
/// every descriptor between fork and exec.
pub fn committer(store: &Store) -> Committer<'_> {
    for _ in 0..200 {
        match Committer::new(store) {
            Err(StoreError::Locked { .. }) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => return other.unwrap(),
        }
    }
    Committer::new(store).unwrap()
}

/// An index that goes with the test.
pub struct Index {
    pub dir: tempfile::TempDir,
}

impl Index {
    pub fn new() -> Self {
        Index { dir: tempfile::tempdir().unwrap() }
    }

    pub fn store(&self) -> Store {
        Store::open_or_create(&self.dir.path().join("index")).unwrap()
    }

    /// Backfills as of 2026, zone UTC, lines without host being `host`'s.
    pub fn fill(&self, paths: &[PathBuf], host: &str) -> Summary {
        self.fill_with(paths, host, BUDGET)
    }

    pub fn fill_with(&self, paths: &[PathBuf], host: &str, budget: usize) -> Summary {
        self.run(paths, host, budget, None)
    }

    /// Stops when so many files were begun.
    pub fn fill_until(&self, paths: &[PathBuf], budget: usize, files: Option<usize>) -> Summary {
        self.run(paths, "h", budget, files)
    }

    fn run(&self, paths: &[PathBuf], host: &str, budget: usize, files: Option<usize>) -> Summary {
        let stop = AtomicBool::new(files == Some(0));
        let progress = Stopper { stop: &stop, left: AtomicUsize::new(files.unwrap_or(usize::MAX)) };
        let site = std::sync::Arc::new(Site::default());
        let parsers = Parsers::load(None).unwrap();
        let options = Options {
            paths: paths.to_vec(),
            host: host.into(),
            year: Some(2026),
            site,
            parsers,
            budget,
            now: 1_800_000_000,
            stop: &stop,
            not_before: None,
        };
        let store = self.store();
        backfill(&store, &mut committer(&store), &options, &progress).unwrap()
    }

    /// Every record, by key.
    pub fn records(&self) -> Vec<StoredRecord> {
        let mut all = Vec::new();
        let query = Query::default();
        self.store()
            .for_each(&query, &mut |stored, _| {
                all.push(stored.clone());
                true
            })
            .unwrap();
        let witnesses = Query { role: Some(msgtrk::model::record::Role::Witness), ..Query::default() };
        self.store()
            .for_each(&witnesses, &mut |stored, _| {
                all.push(stored.clone());
                true
            })
            .unwrap();
        all.sort_by(|a, b| a.key.cmp(&b.key));
        all
    }

    pub fn trace(&self, id: &str) -> Vec<Journey> {
        trace(&mut self.store().walk(), id).unwrap()
    }
}

/// The program, run on an index; times in UTC.
pub fn msgtrk(index: &Path, args: &[&str]) -> Output {
    let mut c = Command::new(env!("CARGO_BIN_EXE_msgtrk"));
    c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").arg("--index").arg(index).args(args).stdin(std::process::Stdio::null());
    ended(&mut c)
}

/// Runs a program to its end. One that hangs is a failure that says so, not a run of the tests without an end.
pub fn ended(c: &mut Command) -> Output {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(240);
    let child = c.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let (pid, (done, is_done)) = (child.id().to_string(), std::sync::mpsc::channel::<()>());
    let watch = std::thread::spawn(move || {
        let hangs = is_done.recv_timeout(LONGEST) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if hangs {
            let _ = Command::new("kill").args(["-9", &pid]).status();
        }
        hangs
    });
    let out = child.wait_with_output().unwrap();
    drop(done);
    assert!(!watch.join().unwrap(), "{c:?} did not end: {}", String::from_utf8_lossy(&out.stderr));
    out
}
