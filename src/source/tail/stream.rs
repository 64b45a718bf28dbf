//! One stream: a live file and its rotated siblings, read in order.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::follow::{Ghost, Look, Plain, Step, mtime_ns};
use super::report::Topic;
use super::shared::Shared;
use super::tracked::{Phase, Tracked};
use crate::source::identity::Recall;
use crate::source::live::Lines;
use crate::source::order::Name;
use crate::source::{Blocks, Compression, FileState, Opened, SourceError};

/// Steps without a line (a hole, a line of many MiB) before another stream has its turn.
const MAX_PASSED: usize = 64;

/// What comes after a step with one file.
pub(super) enum Turn {
    Lines(Lines),
    /// The same file again.
    Again,
    /// From the first file again.
    Restart,
    /// Nothing more from this one: the next file.
    Next,
    /// Later files have to wait.
    Hold,
    /// It is done with: forget it.
    Drop,
}

pub(super) struct Stream {
    pub name: Arc<Path>,
    /// Those that are gone first, then oldest first, the live one last.
    pub files: Vec<Tracked>,
    pub active: bool,
    pub wake: Option<Instant>,
    pub lines: u64,
    pub oversized: u64,
    pub behind_since: Option<Instant>,
    pub ghost: Option<Ghost>,
    /// When a file went away that was not read to its end: was it compressed, or moved?
    pub missed: Option<Instant>,
}

impl Stream {
    pub fn new(name: PathBuf) -> Stream {
        Stream {
            name: name.into(),
            files: Vec::new(),
            active: true,
            wake: None,
            lines: 0,
            oversized: 0,
            behind_since: None,
            ghost: None,
            missed: None,
        }
    }

    /// The next lines, if there are any now.
    pub fn step(&mut self, shared: &mut Shared, now: Instant) -> Option<Lines> {
        self.wake = None;
        let (mut at, mut passed) = (0, 0);
        while at < self.files.len() {
            match self.advance(at, shared, now) {
                Turn::Lines(lines) => {
                    self.lines += memchr::memchr_iter(b'\n', &lines.bytes).count() as u64;
                    return Some(lines);
                }
                Turn::Again | Turn::Restart if passed > MAX_PASSED => return None,
                Turn::Again => passed += 1,
                Turn::Restart => (at, passed) = (0, passed + 1),
                Turn::Next => at += 1,
                Turn::Hold => break,
                Turn::Drop => drop(self.files.remove(at)),
            }
        }
        self.active = false;
        None
    }

    pub fn behind(&self) -> u64 {
        self.files.iter().map(Tracked::behind).sum()
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    fn advance(&mut self, at: usize, shared: &mut Shared, now: Instant) -> Turn {
        let Some(file) = self.files.get_mut(at) else { return Turn::Next };
        match &file.phase {
            Phase::Failed(_) => Turn::Next,
            Phase::Settled(_) => self.settled(at, shared, now),
            Phase::New => {
                if !std::mem::take(&mut file.dirty) {
                    return Turn::Next;
                }
                let path = file.path.clone();
                match self.begin(at, shared, now) {
                    Ok(turn) => turn,
                    Err(error) => self.failed(at, &path, error, shared),
                }
            }
            Phase::Packed(_) => self.unpack(at, shared),
            Phase::Plain(_) => {
                let path = file.path.clone();
                match self.follow(at, shared, now) {
                    Ok(turn) => turn,
                    Err(e) => {
                        let error = SourceError::from_io(&path, "read it", e);
                        shared.reports.begin(Topic::Read, &path, format!("{error}; it is tried again"));
                        Turn::Next
                    }
                }
            }
        }
    }

    /// Has a file that was read to its end changed, and may later files be read?
    fn settled(&mut self, at: usize, shared: &mut Shared, now: Instant) -> Turn {
        let Some(file) = self.files.get_mut(at) else { return Turn::Next };
        if std::mem::take(&mut file.dirty) {
            let meta = file.held.as_ref().map_or_else(|| std::fs::metadata(&file.path), |held| held.metadata());
            if meta.is_ok_and(|m| (m.size(), mtime_ns(&m)) != file.stat) {
                file.unsettle(shared, &self.name);
                return Turn::Again;
            }
        }
        let grace = file.since + shared.options.grace;
        if file.rotated() && now < grace {
            file.dirty = true;
            self.wake_at(grace);
            return Turn::Hold;
        }
        if file.gone { Turn::Drop } else { Turn::Next }
    }

    /// Opens a file and finds out how much of it is known.
    fn begin(&mut self, at: usize, shared: &mut Shared, now: Instant) -> Result<Turn, SourceError> {
        let Some(file) = self.files.get(at) else { return Ok(Turn::Next) };
        if file.name.compressed && !file.live {
            let whole = Name { compressed: false, ..file.name.clone() };
            if self.files.iter().any(|f| f.name == whole && !f.gone && !f.live) {
                return Ok(Turn::Next); // being made out of its twin, which is read
            }
            let steady = file.steady + shared.options.grace * 2;
            if now < steady {
                self.wake_at(steady);
                self.mark(at);
                // What went away unread is in here, perhaps: later lines wait for it, but not for a file that grows and grows.
                let waits = self.missed.is_some_and(|at| now < at + shared.options.grace * 20);
                return Ok(if waits { Turn::Hold } else { Turn::Next });
            }
            if let Some(f) = self
                .files
                .iter_mut()
                .find(|f| f.gone && !f.flush && matches!(&f.phase, Phase::Plain(p) if p.behind() > 0 && p.file.is_some()))
            {
                (f.flush, f.dirty) = (true, true);
                self.mark(at);
                return Ok(Turn::Restart);
            }
        }
        let Some(file) = self.files.get(at) else { return Ok(Turn::Next) };
        let (path, inode, live) = (file.path.clone(), file.inode, file.live);
        let held = self.files.get_mut(at).and_then(|f| f.held.take());
        let mut opened = shared.open_file(&path, inode, held)?;
        if opened.replaced() {
            shared.scan_wanted = true;
            return Ok(Turn::Hold);
        }
        opened.holes = true;
        if opened.meta().size == 0 {
            if live {
                // Held open though there is nothing in it: it may be deleted, and written to all the same.
                let plain = Plain::fresh(opened.handle.clone(), now);
                self.set(at, Phase::Plain(Box::new(plain)), None, shared);
                return Ok(Turn::Again);
            }
            return Ok(Turn::Next);
        }
        self.see_truncations(at, shared, now).map_err(|e| SourceError::from_io(&path, "compare it", e))?;
        if !live && let Some(id) = self.original_of(at, &opened) {
            let plain = Plain::fresh(opened.handle.clone(), now);
            self.set(at, Phase::Plain(Box::new(plain)), Some((id, u64::MAX)), shared);
            return Ok(Turn::Again);
        }
        self.recall(at, opened, shared, now)
    }

    fn recall(&mut self, at: usize, mut opened: Opened, shared: &mut Shared, now: Instant) -> Result<Turn, SourceError> {
        self.note_positions(shared);
        let inode = (opened.meta().dev, opened.meta().ino);
        let name = self.name.clone();
        let may = |s: &FileState| (s.dev, s.ino) == inode || s.length >= 4096 || stream_of(&s.path) == *name;
        let recall = shared.known.recall_if(&mut opened, &may)?;
        shared.reports.end(Topic::Read, opened.path());
        let extra = match recall {
            Recall::Unchanged(state) => {
                let state = state.clone();
                self.settle(at, &opened, state, shared);
                return Ok(Turn::Next);
            }
            Recall::Prefix(state) => Some(state.extra.clone()),
            Recall::New => None,
        };
        if let Some(file) = self.files.get_mut(at) {
            file.begins = extra.is_none();
        }
        if let (None, Some(file)) = (&extra, self.files.get_mut(at).filter(|f| f.used)) {
            file.id = shared.fresh_id();
        }
        if opened.compression()? != Compression::Plain {
            let blocks = Blocks::new(opened, shared.options.blocks)?;
            self.set(at, Phase::Packed(Box::new(blocks)), None, shared);
            return Ok(Turn::Again);
        }
        let mut plain = Plain::resumed(&mut opened, now).map_err(|e| SourceError::from_io(opened.path(), "read it", e))?;
        plain.extra = extra.unwrap_or_default();
        if let Some(ghost) = &self.ghost
            && plain.meets(ghost, false)
        {
            plain.skip_ghost(ghost).map_err(|e| SourceError::from_io(opened.path(), "read it", e))?;
        }
        self.set(at, Phase::Plain(Box::new(plain)), None, shared);
        self.mark(at);
        Ok(Turn::Again)
    }

    fn settle(&mut self, at: usize, opened: &Opened, mut state: FileState, shared: &mut Shared) {
        let Some(file) = self.files.get_mut(at) else { return };
        file.stat = (opened.meta().size, opened.meta().mtime_ns);
        state.path = file.path.clone();
        if !file.live && shared.was_live(&state) {
            shared.tell(&self.name, file.id, state.clone());
        }
        file.used = true;
        if file.live {
            // It may be written to, and deleted then.
            file.held = Some(opened.handle.clone());
            shared.open += 1;
        }
        file.phase = Phase::Settled(Some(Box::new(state)));
    }

    fn set(&mut self, at: usize, phase: Phase, copy: Option<(u64, u64)>, shared: &mut Shared) {
        let Some(file) = self.files.get_mut(at) else { return };
        shared.open += 1;
        (file.phase, file.copy, file.dirty, file.told, file.used) = (phase, copy, true, None, true);
    }

    fn mark(&mut self, at: usize) {
        if let Some(file) = self.files.get_mut(at) {
            file.dirty = true;
        }
    }

    /// Adds to what is known how far the files of this stream were read.
    fn note_positions(&mut self, shared: &mut Shared) {
        for file in &mut self.files {
            if let Phase::Plain(p) = &file.phase
                && p.consumed > file.noted
            {
                shared.known.push(FileState { complete: false, ..p.state(&file.path, file.inode) });
                file.noted = p.consumed;
            }
        }
    }

    fn failed(&mut self, at: usize, path: &Path, error: SourceError, shared: &mut Shared) -> Turn {
        let os = match &error {
            SourceError::Io { error, .. } => error.raw_os_error(),
            SourceError::Missing { .. } => {
                // Compressed or moved since the last scan. Later files wait for the next one, which is at once.
                shared.scan_wanted = true;
                return Turn::Hold;
            }
            _ => None,
        };
        if os.is_some_and(Shared::is_starved) {
            shared.starved(path, &error);
            self.mark(at);
            return Turn::Hold;
        }
        let again = matches!(error, SourceError::Denied { .. } | SourceError::Io { .. });
        shared.reports.begin(Topic::Read, path, format!("{error} (everything else is followed on)"));
        if let Some(file) = self.files.get_mut(at) {
            file.phase = Phase::Failed(again);
        }
        Turn::Next
    }

    /// A block of a compressed file.
    fn unpack(&mut self, at: usize, shared: &mut Shared) -> Turn {
        let Some(file) = self.files.get_mut(at) else { return Turn::Next };
        let Phase::Packed(blocks) = &mut file.phase else { return Turn::Next };
        let error = match blocks.next() {
            Ok(Some(block)) if block.unterminated => return Turn::Again,
            Ok(Some(block)) => {
                let mut bytes = block.bytes;
                if bytes.last() != Some(&b'\n') {
                    bytes.push(b'\n');
                }
                let not_after = Some(blocks.meta().mtime_ns.div_euclid(1_000_000_000));
                return Turn::Lines(file.lines(&self.name, bytes, not_after));
            }
            Ok(None) => None,
            Err(e) => Some(e),
        };
        self.oversized += blocks.oversized();
        file.stat = (blocks.meta().size, blocks.meta().mtime_ns);
        if let Some(state) = blocks.state() {
            shared.tell(&self.name, file.id, state);
        }
        shared.open = shared.open.saturating_sub(1);
        file.phase = Phase::Settled(None);
        let path = file.path.clone();
        match error {
            Some(error) => self.failed(at, &path, error, shared),
            None => Turn::Next,
        }
    }

    /// Reads on in a plain file.
    fn follow(&mut self, at: usize, shared: &mut Shared, now: Instant) -> io::Result<Turn> {
        let Some(file) = self.files.get_mut(at) else { return Ok(Turn::Next) };
        let Phase::Plain(plain) = &mut file.phase else { return Ok(Turn::Next) };
        if std::mem::take(&mut file.dirty) {
            if plain.file.is_none() && !file.gone {
                match shared.open_file(&file.path, file.inode, None) {
                    Ok(opened) if opened.replaced() => shared.scan_wanted = true,
                    Ok(opened) => {
                        plain.file = Some(opened.handle.clone());
                        shared.open += 1;
                    }
                    Err(error) => {
                        let path = file.path.clone();
                        let phase = std::mem::replace(&mut file.phase, Phase::New);
                        let turn = self.failed(at, &path, error, shared);
                        if let Some(file) = self.files.get_mut(at) {
                            file.phase = phase;
                        }
                        return Ok(turn);
                    }
                }
            }
            if plain.look(now)? == Look::Truncated {
                self.truncated(at, shared, now);
                return Ok(Turn::Hold);
            }
            shared.reports.end(Topic::Read, &file.path);
        }
        if let Some((of, seen)) = file.copy {
            return self.follow_copy(at, of, seen, shared, now);
        }
        if !plain.at_end {
            return self.read(at, shared, now);
        }
        self.at_end(at, shared, now)
    }

    fn read(&mut self, at: usize, shared: &Shared, now: Instant) -> io::Result<Turn> {
        let Some(file) = self.files.get_mut(at) else { return Ok(Turn::Next) };
        let Phase::Plain(plain) = &mut file.phase else { return Ok(Turn::Next) };
        let oversized = plain.oversized;
        let step = plain.step(&shared.options.blocks, now);
        self.oversized += plain.oversized - oversized;
        match step? {
            Step::Lines(bytes) => {
                let not_after = Some(plain.mtime_ns.div_euclid(1_000_000_000));
                Ok(Turn::Lines(file.lines(&self.name, bytes, not_after)))
            }
            Step::Passed | Step::End => Ok(Turn::Again),
        }
    }

    /// There is nothing more in the file, for now or for ever.
    fn at_end(&mut self, at: usize, shared: &mut Shared, now: Instant) -> io::Result<Turn> {
        let Some(file) = self.files.get_mut(at) else { return Ok(Turn::Next) };
        if !file.rotated() {
            return Ok(Turn::Next);
        }
        let Phase::Plain(plain) = &mut file.phase else { return Ok(Turn::Next) };
        let quiet = plain.changed.max(file.since);
        let grace = file.since + shared.options.grace;
        let grace = grace.max(plain.changed.min(grace) + shared.options.grace);
        if now < grace {
            file.dirty = true;
            self.wake_at(grace);
            return Ok(Turn::Hold);
        }
        let over = now >= quiet + shared.options.hold;
        if file.gone && (file.flush || over) {
            let oversized = plain.oversized;
            if let Some(bytes) = plain.take_rest(&shared.options.blocks)? {
                self.oversized += plain.oversized - oversized;
                let not_after = Some(plain.mtime_ns.div_euclid(1_000_000_000));
                return Ok(Turn::Lines(file.lines(&self.name, bytes, not_after)));
            }
        }
        let as_told = Some((plain.consumed, plain.size, plain.mtime_ns));
        if file.told != as_told && plain.consumed > 0 {
            let settled = plain.changed + shared.options.grace;
            if now < settled {
                file.dirty = true;
                self.wake_at(settled);
                return Ok(Turn::Next);
            }
            shared.tell(&self.name, file.id, plain.state(&file.path, file.inode));
            file.told = as_told;
        }
        if !over && plain.file.is_some() {
            return Ok(Turn::Next);
        }
        if file.gone {
            shared.open = shared.open.saturating_sub(usize::from(plain.file.is_some()));
            shared.reports.end(Topic::Read, &file.path);
            return Ok(Turn::Drop);
        }
        if plain.file.take().is_some() {
            shared.open = shared.open.saturating_sub(1);
        }
        file.stat = (plain.size, plain.mtime_ns);
        file.phase = Phase::Settled(None);
        Ok(Turn::Next)
    }
}

/// Which stream a path belongs to by its name.
pub(super) fn stream_of(path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let name = crate::source::order::name_of(path.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = std::fs::canonicalize(parent).unwrap_or_else(|_| parent.to_path_buf());
    folder.join(std::ffi::OsStr::from_bytes(&name.stem))
}
