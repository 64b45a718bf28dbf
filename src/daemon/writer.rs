//! The thread that commits.
//!
//! After any error the engine's writer is dropped and taken anew from the disk (R2). The work that failed is then joined
//! with what is stored once more: fold is set union, so it does not matter whether the failed commit had got through.
//! While the disk is full the live loop goes on until its memory is used up, then waits; answers go on all the time.

use super::figures::Figures;
use crate::config::Retention;
use crate::ingest::commit::{Committer, Sink, Work, without};
use crate::ingest::live::LiveWork;
use crate::ingest::open::OpenRecords;
use crate::ingest::wall::WallClock;
use crate::model::redact::person::Person;
use crate::store::{Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Without work for so long after a merge that was left, the next one is done.
const LULL: Duration = Duration::from_secs(1);
/// While work never ends, merges that were left take a part of the time in so many.
const SHARE: u32 = 20;
/// Pauses between tries after an error.
const PAUSES: [u64; 5] = [1, 2, 5, 10, 30];

/// How often retention is seen to.
const UPKEEP: Duration = Duration::from_secs(3600);
/// People forgotten in this run whom the live loop may still have in mind.
const MOST_FORGOTTEN: usize = 256;

/// When the writer does what takes long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Documents that a merge between two commits may make one segment of. Default: 20,000, some tenths of a second's work.
    pub most_merged: u64,
    /// Without work for so long it is a quiet time: merges that were left are done. Default: 20 s.
    pub quiet: Duration,
    /// What is to be done at quiet times waits for one no longer than this: a busy host has none, and its segments would
    /// become ever more. Default: 10 minutes.
    pub overdue: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { most_merged: 20_000, quiet: Duration::from_secs(20), overdue: Duration::from_secs(600) }
    }
}

/// What the writer does besides what it is asked for.
#[derive(Debug, Default)]
pub struct Upkeep {
    retention: Mutex<Retention>,
    /// What the live loop remembers of earlier lines (to know a repeated one) may name them: its positions are stored without.
    forgotten: Mutex<Vec<Person>>,
}

impl Upkeep {
    /// Sets what is kept, and how long; from the config.
    pub fn keep(&self, retention: &Retention) {
        *self.retention.lock().unwrap_or_else(PoisonError::into_inner) = retention.clone();
    }

    fn retention(&self) -> Retention {
        self.retention.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn forget(&self, person: &Person) {
        let mut all = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|p| p.address() != person.address());
        if all.len() >= MOST_FORGOTTEN {
            all.remove(0);
        }
        all.push(person.clone());
    }

    fn without_forgotten(&self, json: &str) -> String {
        let all = self.forgotten.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().fold(json.to_string(), |json, person| without(person, &json))
    }
}

/// What the writer is asked to do.
pub enum Job {
    /// To be stored, however long it takes.
    Live(LiveWork),
    /// To be stored now or refused; the answer is how many records were written.
    Other(Box<Work>, SyncSender<Result<u64, StoreError>>),
    /// The process is ending: nothing more is done.
    End,
}

/// What the thread works with.
pub struct WriterThread {
    /// The index; its reader is reloaded after each commit.
    pub store: Arc<Store>,
    /// Told when live work is stored.
    pub open: Arc<OpenRecords>,
    /// Told of commits and errors.
    pub figures: Arc<Figures>,
    /// Set from outside: work that cannot be stored is given up; the next start reads it again.
    pub stop: Arc<AtomicBool>,
    /// What is done at quiet times.
    pub upkeep: Arc<Upkeep>,
    /// What time it is, for retention.
    pub clock: Arc<WallClock>,
    /// And when.
    pub pace: Pace,
}

impl WriterThread {
    /// Runs until all senders of jobs are gone and what they sent is done. `committer` is taken before anything is announced as ready.
    pub fn run(&self, committer: Committer<'_>, jobs: &Receiver<Job>) {
        let mut committer = Some(committer);
        let Pace { quiet: silence, overdue, .. } = self.pace;
        let (mut due, mut more) = (Instant::now() + silence, false);
        let (mut tidy_due, mut left) = (Instant::now() + overdue, false);
        loop {
            let got = jobs.recv_timeout(if left { LULL.min(silence) } else { silence });
            let quiet = matches!(got, Err(RecvTimeoutError::Timeout));
            match got {
                Ok(Job::Live(work)) => self.live(&mut committer, &work, jobs),
                Ok(Job::End) => return,
                Ok(Job::Other(work, reply)) => {
                    if let Some(forget) = &work.forget {
                        self.upkeep.forget(&forget.person);
                    }
                    let done = self.commit(&mut committer, *work);
                    // Before the client hears of it: what it revoked is not answered any more then.
                    self.open.stored_elsewhere();
                    let _ = reply.send(done);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let begun = Instant::now();
            if quiet || begun >= tidy_due {
                left = self.tidy(&mut committer);
                tidy_due = Instant::now() + if left { begun.elapsed() * SHARE } else { overdue };
            }
            if Instant::now() >= due + if quiet || more { Duration::ZERO } else { overdue } {
                more = self.retain(&mut committer);
                due = Instant::now() + if more { silence } else { UPKEEP };
            }
        }
    }

    /// Does one of the merges that were left; says whether there may be more.
    pub(super) fn tidy(&self, committer: &mut Option<Committer<'_>>) -> bool {
        match committer.as_mut().map(Committer::tidy) {
            Some(Ok(merged)) => merged,
            Some(Err(e)) => {
                *committer = None;
                self.figures.commit_failed(&e);
                false
            }
            None => false,
        }
    }

    /// Sees to retention; says whether there is more to do soon.
    pub(super) fn retain<'s>(&'s self, committer: &mut Option<Committer<'s>>) -> bool {
        let retention = self.upkeep.retention();
        let taken = committer.take().map_or_else(|| self.committer(), Ok);
        let done = taken.and_then(|c| committer.insert(c).retain(&retention, self.clock.believed()));
        if retention.is_set() {
            self.figures.retained(done.as_ref(), self.clock.doubt());
        }
        match done {
            Ok(done) => {
                if done.expired + done.masked > 0 {
                    self.open.stored_elsewhere();
                    tracing::info!("retention: {} records dropped, {} anonymized", done.expired, done.masked);
                }
                done.more
            }
            Err(e) => {
                *committer = None;
                tracing::error!("retention: {e}");
                false
            }
        }
    }

    /// A committer on the index as it is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Locked`] and what else keeps it from being opened.
    pub fn committer(&self) -> Result<Committer<'_>, StoreError> {
        Committer::hasty(&self.store, self.pace.most_merged)
    }

    fn commit<'s>(&'s self, committer: &mut Option<Committer<'s>>, work: Work) -> Result<u64, StoreError> {
        let begun = Instant::now();
        let c = match committer.take() {
            Some(c) => committer.insert(c),
            None => committer.insert(self.committer()?),
        };
        let done = c.commit(work);
        match &done {
            Ok(records) => self.figures.committed(*records, begun.elapsed()),
            Err(e) => {
                *committer = None;
                self.figures.commit_failed(e);
            }
        }
        done
    }

    fn live<'s>(&'s self, committer: &mut Option<Committer<'s>>, work: &LiveWork, jobs: &Receiver<Job>) {
        let mut pauses = PAUSES.into_iter();
        let mut pause = 1;
        while let Err(e) = self.try_live(committer, work) {
            pause = pauses.next().unwrap_or(pause);
            tracing::error!("commit failed, what was read is kept in memory and tried again in {pause} s: {e}");
            if !self.stop.load(Relaxed) {
                if e.is_storage_full() {
                    self.retain(committer);
                }
                self.refuse(jobs, Duration::from_secs(pause), &e);
            }
            if self.stop.load(Relaxed) {
                self.open.give_up();
                return;
            }
        }
    }

    /// Stores live work, once tried. After an error the next try is on a committer taken anew.
    pub(super) fn try_live<'s>(&'s self, committer: &mut Option<Committer<'s>>, work: &LiveWork) -> Result<(), StoreError> {
        let whole = Work {
            changes: work.changes.to_vec(),
            sources: work.sources.iter().map(|(key, json)| (key.clone(), self.upkeep.without_forgotten(json))).collect(),
            positions: Some(self.upkeep.without_forgotten(&work.positions)),
            ..Work::default()
        };
        self.commit(committer, whole)?;
        self.open.committed();
        Ok(())
    }

    /// Answers others with the error while the live work waits.
    fn refuse(&self, jobs: &Receiver<Job>, pause: Duration, e: &StoreError) {
        let until = Instant::now() + pause;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            if self.stop.load(Relaxed) {
                return;
            }
            match jobs.recv_timeout(left.min(Duration::from_millis(200))) {
                Ok(Job::Other(_, reply)) => {
                    let _ = reply.send(Err(StoreError::Busy { dir: self.store.dir().into(), why: e.to_string() }));
                }
                // The live loop waits for its work's end before it hands in more.
                Ok(Job::Live(_) | Job::End) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(left),
            }
        }
    }
}
