//! What all tests share: an index in a temporary folder, filled in process or by the program.

use msgtrk::config::Site;
use msgtrk::ingest::backfill::{BUDGET, Options, Progress, Summary, backfill};
use msgtrk::model::journey::{Journey, trace};
use msgtrk::model::query::Query;
use msgtrk::model::record::StoredRecord;
use msgtrk::parse::Parsers;
use msgtrk::store::Store;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

/// Progress that nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn total(&self, _: u64) {}
    fn file(&self, _: &Path) {}
    fn position(&self, _: u64) {}
    fn problem(&self, _: &str) {}
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
        let stop = AtomicBool::new(false);
        let site = std::sync::Arc::new(Site::default());
        let parsers = Parsers::load(None).unwrap();
        let options =
            Options { paths: paths.to_vec(), host: host.into(), year: Some(2026), site, parsers, budget, now: 1_800_000_000, stop: &stop };
        backfill(&self.store(), &options, &Silent).unwrap()
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
    c.output().unwrap()
}
