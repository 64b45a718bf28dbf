//! Counters of the daemon: what `msgtrk status` and Prometheus are told.

use crate::ingest::fold::LeftOut;
use crate::ingest::parse_block::Counts;
use crate::ingest::retention::Done;
use crate::store::StoreError;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a source is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceHealth {
    /// Path, or what it is (`journal`, `syslog udp 127.0.0.1:514`).
    pub name: String,
    /// Bytes written but not read yet, where that can be told.
    pub bytes_behind: Option<u64>,
    /// Seconds between the latest line's stamp and its being read, where that can be told.
    pub seconds_behind: Option<f64>,
    /// Lines read since the start.
    pub lines: u64,
    /// What is wrong at the moment, and what follows from it.
    pub problem: Option<String>,
}

/// What `msgtrk status` is told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the running program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since 1970 at the start.
    pub started: i64,
    /// Addresses that are listened on, by what for.
    pub listening: Vec<(String, String)>,
    /// Sources.
    pub sources: Vec<SourceHealth>,
    /// Lines read since the start.
    pub lines: u64,
    /// Events read since the start.
    pub events: u64,
    /// Records written since the start.
    pub records: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Commits that failed since the start.
    pub commit_errors: u64,
    /// Seconds since 1970 of the latest commit.
    pub last_commit: Option<i64>,
    /// Why the latest commit failed, if none has succeeded since.
    pub commit_problem: Option<String>,
    /// Lines that no pattern knows since the start, by program.
    pub unparsed: Vec<(String, u64)>,
    /// Questions answered since the start.
    pub queries: u64,
    /// What was read since the start and is part of no record.
    #[serde(default)]
    pub left_out: LeftOut,
    /// What retention did.
    #[serde(default)]
    pub retention: RetentionStatus,
}

/// What was done of what the config says of retention.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetentionStatus {
    /// Seconds since 1970: when it was seen to last. `None`: nothing is configured, or it was not yet.
    pub last_run: Option<i64>,
    /// Records dropped since the start.
    pub dropped: u64,
    /// Seconds since 1970 of the latest such drop.
    pub last_dropped: Option<i64>,
    /// Records anonymized since the start.
    pub anonymized: u64,
    /// Seconds since 1970: when records were anonymized last.
    pub last_anonymized: Option<i64>,
    /// Why the latest run failed, if it did.
    pub problem: Option<String>,
}

/// The daemon's counters.
#[derive(Debug, Default)]
pub struct Figures {
    lines: AtomicU64,
    events: AtomicU64,
    records: AtomicU64,
    commits: AtomicU64,
    commit_errors: AtomicU64,
    commit_micros: AtomicU64,
    last_commit: AtomicU64,
    queries: AtomicU64,
    slow: Mutex<Slow>,
}

#[derive(Debug, Default)]
struct Slow {
    problem: Option<String>,
    counts: Counts,
    sources: Vec<SourceHealth>,
    listening: Vec<(String, String)>,
    started: i64,
    left_out: LeftOut,
    retention: RetentionStatus,
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Figures {
    fn slow(&self) -> MutexGuard<'_, Slow> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the start.
    pub fn started(&self) {
        self.slow().started = unix_seconds() as i64;
    }

    /// Notes what is listened on: what for, and the address.
    pub fn listening(&self, listening: Vec<(String, String)>) {
        self.slow().listening = listening;
    }

    /// Counts lines that were read, and what of them was left out.
    pub fn read(&self, counts: &Counts, left_out: &LeftOut) {
        self.lines.fetch_add(counts.lines, Relaxed);
        self.events.fetch_add(counts.events, Relaxed);
        if !counts.unparsed.is_empty() {
            self.slow().counts.add(counts);
        }
        if *left_out != LeftOut::default() {
            let all = &mut self.slow().left_out;
            all.too_old += left_out.too_old;
            all.undated += left_out.undated;
            all.orphans += left_out.orphans;
            all.overfull += left_out.overfull;
        }
    }

    /// Notes what a run of retention did, and why it went by another time than the clock's (`doubt`), if it did.
    pub(super) fn retained(&self, done: Result<&Done, &StoreError>, doubt: Option<String>) {
        let (now, mut slow) = (unix_seconds() as i64, self.slow());
        let r = &mut slow.retention;
        r.last_run = Some(now);
        r.problem = done.err().map(ToString::to_string).or(doubt);
        if let Ok(done) = done {
            r.dropped += done.expired;
            r.anonymized += done.masked;
            r.last_dropped = if done.expired > 0 { Some(now) } else { r.last_dropped };
            r.last_anonymized = if done.masked > 0 { Some(now) } else { r.last_anonymized };
        }
    }

    /// Counts a question.
    pub fn asked(&self) {
        self.queries.fetch_add(1, Relaxed);
    }

    /// Notes how the sources are.
    pub fn set_sources(&self, sources: Vec<SourceHealth>) {
        self.slow().sources = sources;
    }

    pub(super) fn committed(&self, records: u64, took: Duration) {
        self.records.fetch_add(records, Relaxed);
        self.commits.fetch_add(1, Relaxed);
        self.commit_micros.fetch_add(took.as_micros() as u64, Relaxed);
        self.last_commit.store(unix_seconds(), Relaxed);
        self.slow().problem = None;
    }

    pub(super) fn commit_failed(&self, e: &StoreError) {
        self.commit_errors.fetch_add(1, Relaxed);
        self.slow().problem = Some(e.to_string());
    }

    /// All of it.
    pub fn status(&self) -> Status {
        let slow = self.slow();
        let last = self.last_commit.load(Relaxed);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            started: slow.started,
            listening: slow.listening.clone(),
            sources: slow.sources.clone(),
            lines: self.lines.load(Relaxed),
            events: self.events.load(Relaxed),
            records: self.records.load(Relaxed),
            commits: self.commits.load(Relaxed),
            commit_errors: self.commit_errors.load(Relaxed),
            last_commit: (last > 0).then_some(last as i64),
            commit_problem: slow.problem.clone(),
            unparsed: slow.counts.unparsed.iter().map(|(p, u)| (p.clone(), u.count)).collect(),
            queries: self.queries.load(Relaxed),
            left_out: slow.left_out,
            retention: slow.retention.clone(),
        }
    }

    /// Prometheus' text format (version 0.0.4).
    pub fn prometheus(&self) -> String {
        let s = self.status();
        let mut out = String::new();
        let mut metric = |name: &str, kind: &str, help: &str, values: Vec<(String, f64)>| {
            let _ = writeln!(out, "# HELP msgtrk_{name} {help}\n# TYPE msgtrk_{name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(out, "msgtrk_{name}{labels} {value}");
            }
        };
        let one = |v: f64| vec![(String::new(), v)];
        metric("up_since_seconds", "gauge", "Start, seconds since 1970.", one(s.started as f64));
        metric("lines_total", "counter", "Log lines read.", one(s.lines as f64));
        metric("events_total", "counter", "Events that lines stated.", one(s.events as f64));
        metric("records_written_total", "counter", "Records written to the index, new or changed.", one(s.records as f64));
        metric("commits_total", "counter", "Commits.", one(s.commits as f64));
        metric("commit_seconds_total", "counter", "Time spent in commits.", one(self.commit_micros.load(Relaxed) as f64 / 1e6));
        metric("commit_errors_total", "counter", "Commits that failed.", one(s.commit_errors as f64));
        metric("commit_failing", "gauge", "Whether the latest commit failed.", one(f64::from(u8::from(s.commit_problem.is_some()))));
        metric("last_commit_seconds", "gauge", "Latest commit, seconds since 1970.", one(s.last_commit.unwrap_or(0) as f64));
        metric("queries_total", "counter", "Questions answered.", one(s.queries as f64));
        let by = |label: &str, of: &str| format!("{{{label}=\"{}\"}}", escaped(of));
        let left_out = s.left_out;
        let left_out =
            [("too_old", left_out.too_old), ("undated", left_out.undated), ("orphan", left_out.orphans), ("overfull", left_out.overfull)];
        let left_out = left_out.into_iter().map(|(why, n)| (by("why", why), n as f64)).collect();
        metric("left_out_total", "counter", "Lines or events that became part of no record.", left_out);
        let r = &s.retention;
        metric("retention_dropped_records_total", "counter", "Records dropped by retention.", one(r.dropped as f64));
        metric("retention_anonymized_records_total", "counter", "Records anonymized by retention.", one(r.anonymized as f64));
        metric(
            "retention_last_run_seconds",
            "gauge",
            "When retention was seen to last, seconds since 1970.",
            one(r.last_run.unwrap_or(0) as f64),
        );
        metric(
            "retention_failing",
            "gauge",
            "Whether the latest run of retention failed, or doubted the clock.",
            one(f64::from(u8::from(r.problem.is_some()))),
        );
        let unparsed = s.unparsed.iter().map(|(p, n)| (by("program", p), *n as f64)).collect();
        metric("unparsed_lines_total", "counter", "Lines of known programs that no pattern knows.", unparsed);
        let source = |value: &dyn Fn(&SourceHealth) -> Option<f64>| {
            s.sources.iter().filter_map(|x| Some((by("source", &x.name), value(x)?))).collect::<Vec<_>>()
        };
        metric("source_bytes_behind", "gauge", "Bytes written but not read yet.", source(&|x| x.bytes_behind.map(|b| b as f64)));
        metric("source_seconds_behind", "gauge", "Age of the latest line when it was read.", source(&|x| x.seconds_behind));
        metric("source_lines_total", "counter", "Lines read.", source(&|x| Some(x.lines as f64)));
        metric(
            "source_failing",
            "gauge",
            "Whether something is wrong with it.",
            source(&|x| Some(f64::from(u8::from(x.problem.is_some())))),
        );
        out
    }
}

/// A label's value: backslash, quote and newline escaped, other control characters replaced.
fn escaped(value: &str) -> String {
    let mut out = String::new();
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_retention_did_adds_up_and_its_failure_is_over_when_it_succeeds() {
        let f = Figures::default();
        assert_eq!(f.status().retention, RetentionStatus::default());
        f.retained(Ok(&Done { expired: 5, masked: 0, more: false }), None);
        f.retained(Err(&StoreError::Stopped { dir: "index".into() }), None);
        let r = f.status().retention;
        assert!(r.problem.is_some() && r.last_dropped.is_some() && r.last_anonymized.is_none());
        assert!(f.prometheus().contains("\nmsgtrk_retention_failing 1\n"));
        f.retained(Ok(&Done::default()), Some("the clock has jumped".into()));
        assert_eq!(f.status().retention.problem.as_deref(), Some("the clock has jumped"));
        assert!(f.prometheus().contains("\nmsgtrk_retention_failing 1\n"));
        f.retained(Ok(&Done { expired: 2, masked: 3, more: true }), None);
        let r = f.status().retention;
        assert_eq!((r.dropped, r.anonymized, r.problem), (7, 3, None));
        let text = f.prometheus();
        for line in [
            "retention_dropped_records_total 7",
            "retention_anonymized_records_total 3",
            "retention_failing 0",
            "left_out_total{why=\"orphan\"} 0",
        ] {
            assert!(text.contains(&format!("\nmsgtrk_{line}\n")), "{line}");
        }
    }

    #[test]
    fn prometheus_text_has_every_source_and_escapes_its_name() {
        let f = Figures::default();
        f.set_sources(vec![SourceHealth { name: "a\"\n\\b".into(), bytes_behind: Some(7), ..SourceHealth::default() }]);
        f.asked();
        let text = f.prometheus();
        assert!(text.contains("msgtrk_source_bytes_behind{source=\"a\\\"\\n\\\\b\"} 7\n"), "{text}");
        assert!(text.contains("\nmsgtrk_queries_total 1\n"));
        assert!(text.lines().all(|l| l.starts_with("# ") || l.rsplit_once(' ').is_some_and(|(_, v)| v.parse::<f64>().is_ok())));
    }
}
