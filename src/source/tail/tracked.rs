//! One file of a stream, and what is done with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::follow::Plain;
use super::shared::Shared;
use crate::source::discover::Found;
use crate::source::live::Lines;
use crate::source::order::Name;
use crate::source::{Blocks, FileState};

/// A file of the stream.
pub(super) struct Tracked {
    /// Unique; a new one when the file begins anew.
    pub id: u64,
    pub path: PathBuf,
    pub inode: (u64, u64),
    pub name: Name,
    /// Reached through a symlink.
    pub linked: bool,
    /// Size and time of change when a scan, or the one who settled it, saw it last.
    pub stat: (u64, i64),
    /// The last of the stream, which is written to.
    pub live: bool,
    /// It has no name any more that is known here.
    pub gone: bool,
    /// Since when it is rotated or gone.
    pub since: Instant,
    /// Since when all scans saw the same `stat`.
    pub steady: Instant,
    pub phase: Phase,
    /// May have changed: look.
    pub dirty: bool,
    /// It begins like another file, whose id this is, and may be a copy in the making; how far that was read when last compared.
    pub copy: Option<(u64, u64)>,
    /// The last line of a file that is gone is to be given out though it has no newline.
    pub flush: bool,
    /// Length and stat when it was last told to be finished.
    pub told: Option<(u64, u64, i64)>,
    /// Its descriptor, where it goes on as [`Phase::New`].
    pub held: Option<Arc<File>>,
    /// Something of it was read under its id.
    pub used: bool,
    /// Length last added to what is known.
    pub noted: u64,
    /// Nothing of it was given out, in an earlier run neither.
    pub begins: bool,
}

/// So many ends of lines are in the position of a file that may be truncated at any time: they are stored with each commit.
const ENDS: usize = 16;

/// What is done with a file.
pub(super) enum Phase {
    /// Not opened yet.
    New,
    Plain(Box<Plain>),
    Packed(Box<Blocks>),
    /// Everything in it was read, as long as its stat stays. The state, if it was recalled only.
    Settled(Option<Box<FileState>>),
    /// Cannot be read. Whether to try again though its stat stays.
    Failed(bool),
}

impl Tracked {
    pub fn new(id: u64, name: Name, found: &Found, now: Instant, first: bool, shared: &Shared) -> Tracked {
        // What lies there at the first look was there before: nothing to wait for.
        let since = if first { now.checked_sub(shared.options.grace).unwrap_or(now) } else { now };
        Tracked {
            id,
            path: found.path.clone(),
            inode: found.inode,
            name,
            linked: found.linked,
            stat: stat_of(found),
            live: false,
            gone: false,
            since,
            steady: since.checked_sub(shared.options.grace).filter(|_| first).unwrap_or(since),
            phase: Phase::New,
            dirty: true,
            copy: None,
            flush: false,
            told: None,
            held: None,
            used: false,
            noted: 0,
            begins: true,
        }
    }

    /// Some of its lines, given out.
    pub fn lines(&mut self, stream: &Arc<Path>, bytes: Vec<u8>, not_after: Option<i64>) -> Lines {
        Lines { stream: stream.clone(), file: self.id, bytes, begins: std::mem::take(&mut self.begins), not_after }
    }

    pub fn handle(&self) -> Option<Arc<File>> {
        match &self.phase {
            Phase::Plain(p) => p.file.clone(),
            _ => None,
        }
    }

    /// There is something new in a file that was read to its end. Its state outlives it as a document.
    pub fn unsettle(&mut self, shared: &mut Shared, stream: &Arc<Path>) {
        if let Phase::Settled(state) = std::mem::replace(&mut self.phase, Phase::New)
            && let Some(state) = state.filter(|_| self.live)
        {
            shared.tell(stream, self.id, *state);
        }
        self.dirty = true;
    }

    pub fn rotated(&self) -> bool {
        self.gone || !self.live
    }

    /// Position now, of what is neither settled nor told to be finished as it is.
    pub fn position(&self) -> Option<FileState> {
        match &self.phase {
            Phase::Plain(p) if p.consumed > 0 && self.told != Some((p.consumed, p.size, p.mtime_ns)) => {
                // It may be copied and truncated before the next one.
                Some(FileState { ends: p.ends(ENDS), ..p.state(&self.path, self.inode) })
            }
            Phase::Packed(blocks) => blocks.state().filter(|s| s.length > 0),
            Phase::Settled(Some(state)) if self.live => Some(FileState { path: self.path.clone(), ..(**state).clone() }),
            _ => None,
        }
    }

    /// Bytes (on disk) that can be given out and were not.
    pub fn behind(&self) -> u64 {
        match &self.phase {
            Phase::Plain(p) if self.copy.is_some() || p.at_end => 0,
            Phase::Plain(p) => p.behind(),
            Phase::Packed(b) => self.stat.0.saturating_sub(b.disk_position()),
            Phase::New => self.stat.0,
            Phase::Settled(_) | Phase::Failed(_) => 0,
        }
    }

    /// Whether a descriptor is held.
    pub fn is_open(&self) -> bool {
        match &self.phase {
            Phase::Plain(p) => p.file.is_some(),
            Phase::Packed(_) => true,
            _ => self.held.is_some(),
        }
    }

    /// Whether it can be closed, to be opened again when it changes.
    pub fn can_close(&self) -> bool {
        let idle = match &self.phase {
            Phase::Plain(p) => p.at_end,
            Phase::Settled(_) => true,
            _ => false,
        };
        idle && !self.gone && self.is_open()
    }

    pub fn close(&mut self) {
        if let Phase::Plain(p) = &mut self.phase {
            p.file = None;
        }
        self.held = None;
    }

    /// When something was read of it.
    pub fn last_used(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Plain(p) => Some(p.used),
            _ => None,
        }
    }

    /// A scan saw the self.
    pub fn seen(&mut self, name: Name, found: &Found, now: Instant) {
        let stat = stat_of(found);
        (self.path, self.name, self.linked, self.gone) = (found.path.clone(), name, found.linked, false);
        let changed = stat != self.stat;
        if changed {
            self.steady = now;
        }
        if matches!(self.phase, Phase::Settled(_)) {
            self.dirty |= changed;
            return;
        }
        self.stat = stat;
        match &self.phase {
            Phase::Failed(again) if changed || *again => (self.phase, self.dirty) = (Phase::New, true),
            Phase::New => self.dirty = true,
            // Looks may be due though the stat is the same: `Plain::look` knows.
            Phase::Plain(p) => self.dirty |= p.file.is_some() || stat != (p.size, p.mtime_ns),
            _ => {}
        }
    }
}

pub(super) fn stat_of(found: &Found) -> (u64, i64) {
    let ns = i128::from(found.mtime.0) * 1_000_000_000 + i128::from(found.mtime.1);
    (found.size, ns.clamp(i64::MIN.into(), i64::MAX.into()).try_into().unwrap_or(0))
}
