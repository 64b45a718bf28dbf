//! What all streams of a tailer share.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::TailOptions;
use super::report::{Reports, Topic};
use crate::source::identity::{FileState, Hash128, Known};
use crate::source::live::FilePosition;
use crate::source::open::{Opened, open, opened};
use crate::source::{SourceError, SourceFile};

/// States that are kept at least, before the oldest half is forgotten.
const MAX_KNOWN: usize = 50_000;

type Mark = (u64, u64, u64, Hash128);

fn mark(s: &FileState) -> Mark {
    (s.dev, s.ino, s.length, s.hash)
}

pub(super) struct Shared {
    pub options: TailOptions,
    pub known: Known,
    pub reports: Reports,
    /// About how many descriptors are held.
    pub open: usize,
    /// Look at the folders before going on.
    pub scan_wanted: bool,
    pub finished: Vec<FilePosition>,
    /// How many of them the last checkpoint had.
    given: usize,
    next_id: u64,
    live_before: HashSet<Mark>,
    max_known: usize,
    /// Tests make opening a path fail with this error.
    #[cfg(test)]
    pub fault: Option<(std::path::PathBuf, i32)>,
    /// Tests let no notification be had.
    #[cfg(test)]
    pub no_watch: bool,
}

impl Shared {
    pub fn new(live: &[FileState], finished: Vec<FileState>, options: TailOptions) -> Shared {
        let mut states = finished;
        states.extend_from_slice(live);
        Shared {
            options,
            max_known: MAX_KNOWN.max(states.len() * 2),
            known: Known::new(states),
            reports: Reports::default(),
            open: 0,
            scan_wanted: false,
            finished: Vec::new(),
            given: 0,
            next_id: 0,
            live_before: live.iter().map(mark).collect(),
            #[cfg(test)]
            fault: None,
            #[cfg(test)]
            no_watch: false,
        }
    }

    pub fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Whether an earlier run's payload had this state, so that no document has it.
    pub fn was_live(&self, state: &FileState) -> bool {
        self.live_before.contains(&mark(state))
    }

    /// A file was read to its end.
    pub fn tell(&mut self, stream: &Arc<Path>, file: u64, state: FileState) {
        self.known.push(state.clone());
        let told = FilePosition { stream: stream.clone(), file, state };
        match self.finished.iter_mut().skip(self.given).find(|f| f.file == file) {
            Some(earlier) => *earlier = told,
            None => self.finished.push(told),
        }
    }

    /// For a checkpoint.
    pub fn give(&mut self) -> Vec<FilePosition> {
        self.given = self.finished.len();
        self.finished.clone()
    }

    pub fn committed(&mut self) {
        self.finished.drain(..self.given.min(self.finished.len()));
        self.given = 0;
    }

    /// Forgets the oldest states when there are too many.
    pub fn prune(&mut self) {
        let states = self.known.states();
        if states.len() > self.max_known {
            self.known = Known::new(states.iter().skip(states.len() - self.max_known / 2).cloned().collect());
        }
    }

    /// Opens a file, or takes the descriptor that is `held`.
    pub fn open_file(&mut self, path: &Path, inode: (u64, u64), held: Option<Arc<File>>) -> Result<Opened, SourceError> {
        let file = SourceFile { inode: Some(inode), ..SourceFile::new(path) };
        if let Some(handle) = held {
            return opened(&file, handle, &self.options.limits);
        }
        #[cfg(test)]
        if let Some((_, errno)) = self.fault.as_ref().filter(|(p, _)| p == path) {
            return Err(SourceError::from_io(path, "open it", io::Error::from_raw_os_error(*errno)));
        }
        let opened = open(&file, &self.options.limits)?;
        self.reports.end(Topic::Descriptors, Path::new("/"));
        Ok(opened)
    }

    /// Whether an error says that descriptors (of the process, or of all) have run out.
    pub fn is_starved(errno: i32) -> bool {
        let io = io::Error::from_raw_os_error(errno);
        [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE].iter().any(|e| io.raw_os_error() == Some(e.raw_os_error()))
    }

    pub fn starved(&mut self, path: &Path, error: &SourceError) {
        let text = format!(
            "descriptors have run out ({error}); files are followed later, as soon as some are free: raise the limit (LimitNOFILE=)"
        );
        self.reports.begin(Topic::Descriptors, Path::new("/"), text);
        let _ = path;
        self.open = self.options.max_open;
    }
}
