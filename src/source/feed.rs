//! What sources with a thread or tasks of their own have in common: a bounded channel, and what is
//! told about them.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;

use super::live::{Activity, Checkpoint, Health, Lines, Live, Problem};

/// Parcels that wait at most.
pub(super) const QUEUE: usize = 4096;
/// Bytes of one [`Lines`], about.
const BLOCK: usize = 256 * 1024;

/// Some whole lines on their way.
pub(super) struct Parcel {
    pub bytes: Vec<u8>,
    /// Where the source stands after them.
    pub cursor: Option<String>,
}

/// What the sending side tells.
pub(super) struct Status {
    /// For messages: the stream, or what it reads.
    name: Arc<Path>,
    pub dropped: AtomicU64,
    pub oversized: AtomicU64,
    pub ended: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    error: Option<String>,
    news: Vec<Problem>,
}

impl Status {
    fn told<R>(&self, act: impl FnOnce(&mut Told) -> R) -> R {
        act(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something is wrong. Told once, until [`Status::well`].
    pub fn wrong(&self, text: String) {
        self.told(|told| {
            if told.error.is_none() {
                told.news.push(Problem { path: self.name.to_path_buf(), text: text.clone(), over: false });
                told.error = Some(text);
            }
        });
    }

    /// Nothing is wrong any more.
    pub fn well(&self) {
        self.told(|told| {
            if let Some(text) = told.error.take() {
                told.news.push(Problem { path: self.name.to_path_buf(), text, over: true });
            }
        });
    }
}

/// The receiving end: a source as the live loop sees it.
pub struct Feed {
    stream: Arc<Path>,
    receiver: mpsc::Receiver<Parcel>,
    status: Arc<Status>,
    /// Has a position that is to be kept.
    cursor: Option<String>,
    lines: u64,
    behind_since: Option<Instant>,
    /// What ends the sending side, beyond the closed channel.
    pub(super) stop: Option<Box<dyn FnOnce() + Send>>,
}

impl Feed {
    /// A channel for `stream`, which stands at `cursor`.
    pub(super) fn new(stream: &str, cursor: Option<String>) -> (mpsc::Sender<Parcel>, Arc<Status>, Feed) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let stream: Arc<Path> = Path::new(stream).into();
        let status = Arc::new(Status {
            name: stream.clone(),
            dropped: AtomicU64::new(0),
            oversized: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            told: Mutex::default(),
        });
        let feed = Feed { stream, receiver, status: status.clone(), cursor, lines: 0, behind_since: None, stop: None };
        (sender, status, feed)
    }
}

impl Live for Feed {
    fn next(&mut self, now: Instant) -> Option<Lines> {
        let mut bytes = Vec::new();
        while bytes.len() < BLOCK {
            let Ok(parcel) = self.receiver.try_recv() else { break };
            bytes.extend_from_slice(&parcel.bytes);
            self.cursor = parcel.cursor.or(self.cursor.take());
        }
        self.behind_since = if self.receiver.is_empty() { None } else { self.behind_since.or(Some(now)) };
        if bytes.is_empty() {
            return None;
        }
        self.lines += memchr::memchr_iter(b'\n', &bytes).count() as u64;
        Some(Lines { stream: self.stream.clone(), file: 0, bytes, begins: false, not_after: None })
    }

    fn checkpoint(&mut self) -> Checkpoint {
        let name = self.stream.to_string_lossy().into_owned();
        Checkpoint { cursors: self.cursor.clone().map(|c| (name, c)).into_iter().collect(), ..Checkpoint::default() }
    }

    fn problems(&mut self) -> Vec<Problem> {
        self.status.told(|told| std::mem::take(&mut told.news))
    }

    fn health(&self) -> Vec<Health> {
        let error = self.status.told(|told| told.error.clone());
        let behind = self.receiver.len() as u64;
        let activity = match (&error, self.status.ended.load(Ordering::Relaxed), behind) {
            (_, true, 0) => Activity::Ended,
            (Some(_), ..) => Activity::Failed,
            (None, _, 0) => Activity::Following,
            _ => Activity::CatchingUp,
        };
        vec![Health {
            stream: self.stream.clone(),
            activity,
            behind,
            behind_since: self.behind_since,
            lines: self.lines,
            oversized: self.status.oversized.load(Ordering::Relaxed),
            dropped: self.status.dropped.load(Ordering::Relaxed),
            error,
        }]
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.receiver.close();
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}
