//! One stream: a live file and its rotated siblings, read in order.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::follow::{Ghost, Look, Plain, Step, mtime_ns, read_full};
use super::report::Topic;
use super::shared::Shared;
use crate::source::discover::Found;
use crate::source::identity::Recall;
use crate::source::live::Lines;
use crate::source::order::Name;
use crate::source::{Blocks, Compression, FileState, Opened, SourceError, WARM_LEN};

/// Steps without a line (a hole, a line of many MiB) before another stream has its turn.
const MAX_PASSED: usize = 64;

/// A file of the stream.
pub(super) struct Tracked {
    /// Unique; a new one when the file begins anew.
    pub id: u64,
    pub path: PathBuf,
    pub inode: (u64, u64),
    pub name: Name,
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
    copy: Option<(u64, u64)>,
    /// The last line of a file that is gone is to be given out though it has no newline.
    flush: bool,
    /// Length and stat when it was last told to be finished.
    told: Option<(u64, u64, i64)>,
    /// Its descriptor, where it goes on as [`Phase::New`].
    pub held: Option<Arc<File>>,
    /// Something of it was read under its id.
    used: bool,
    /// Length last added to what is known.
    noted: u64,
}

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
        }
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

    fn rotated(&self) -> bool {
        self.gone || !self.live
    }

    /// Position now, of what is neither settled nor told to be finished as it is.
    pub fn position(&self) -> Option<FileState> {
        match &self.phase {
            Phase::Plain(p) if p.consumed > 0 && self.told != Some((p.consumed, p.size, p.mtime_ns)) => Some(p.state(&self.path, self.inode)),
            Phase::Packed(blocks) => blocks.state().filter(|s| s.length > 0),
            Phase::Settled(Some(state)) if self.live => Some(FileState { path: self.path.clone(), ..(**state).clone() }),
            _ => None,
        }
    }

    /// Bytes (on disk) not given out.
    pub fn behind(&self) -> u64 {
        match &self.phase {
            Phase::Plain(_) if self.copy.is_some() => 0,
            Phase::Plain(p) => p.behind(),
            Phase::Packed(b) => self.stat.0.saturating_sub(b.disk_position()),
            Phase::New => self.stat.0,
            Phase::Settled(_) | Phase::Failed(_) => 0,
        }
    }
}

pub(super) fn stat_of(found: &Found) -> (u64, i64) {
    let ns = i128::from(found.mtime.0) * 1_000_000_000 + i128::from(found.mtime.1);
    (found.size, ns.clamp(i64::MIN.into(), i64::MAX.into()).try_into().unwrap_or(0))
}

/// What comes after a step with one file.
enum Turn {
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
    /// The file before the first new line, and how far it was read: for context.
    before: Option<(PathBuf, (u64, u64), u64)>,
    /// Context was given, or is not needed any more.
    warmed: bool,
    ghost: Option<Ghost>,
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
            before: None,
            warmed: false,
            ghost: None,
        }
    }

    /// The next lines, if there are any now.
    pub fn step(&mut self, shared: &mut Shared, now: Instant) -> Option<Lines> {
        self.wake = None;
        let (mut at, mut passed) = (0, 0);
        while at < self.files.len() {
            match self.advance(at, shared, now) {
                Turn::Lines(lines) => {
                    if !lines.warm {
                        self.lines += memchr::memchr_iter(b'\n', &lines.bytes).count() as u64;
                    }
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

    /// Looks whether what was consumed of the others is still there.
    fn see_truncations(&mut self, except: usize, shared: &mut Shared, now: Instant) -> io::Result<()> {
        for at in (0..self.files.len()).filter(|at| *at != except) {
            let truncated = match self.files.get_mut(at).map(|f| &mut f.phase) {
                Some(Phase::Plain(plain)) => plain.look(now)? == Look::Truncated,
                _ => false,
            };
            if truncated {
                self.truncated(at, shared, now);
            }
        }
        Ok(())
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
                return Ok(Turn::Next);
            }
            if let Some(f) = self.files.iter_mut().find(|f| f.gone && !f.flush && f.behind() > 0 && f.handle().is_some()) {
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
            return Ok(Turn::Next);
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
        if let (None, Some(file)) = (&extra, self.files.get_mut(at).filter(|f| f.used)) {
            file.id = shared.fresh_id();
        }
        if opened.compression()? != Compression::Plain {
            let blocks = Blocks::new(opened, shared.options.blocks)?;
            self.set(at, Phase::Packed(Box::new(blocks)), None, shared);
            return Ok(Turn::Again);
        }
        let mut plain = Plain::resumed(&mut opened, now);
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
        self.before = Some((file.path.clone(), file.inode, state.length));
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

    /// The live file of which this one is the beginning, byte for byte.
    fn original_of(&self, at: usize, opened: &Opened) -> Option<u64> {
        let copy = self.files.get(at).filter(|f| !f.name.compressed)?;
        let live = self.files.iter().find(|f| f.live && !f.gone && f.id != copy.id && !f.name.compressed)?;
        let file = live.handle().or_else(|| File::open(&live.path).ok().map(Arc::new))?;
        same_start(&opened.handle, &file, 0, opened.meta().size).ok().filter(|same| *same).map(|_| live.id)
    }

    fn failed(&mut self, at: usize, path: &Path, error: SourceError, shared: &mut Shared) -> Turn {
        let os = match &error {
            SourceError::Io { error, .. } => error.raw_os_error(),
            SourceError::Missing { .. } => {
                shared.scan_wanted = true;
                return Turn::Next;
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
        if let Some(lines) = self.context(at) {
            return Turn::Lines(lines);
        }
        let Some(file) = self.files.get_mut(at) else { return Turn::Next };
        let Phase::Packed(blocks) = &mut file.phase else { return Turn::Next };
        let error = match blocks.next() {
            Ok(Some(block)) if block.unterminated || (block.warm && self.warmed) => return Turn::Again,
            Ok(Some(block)) => {
                let mut bytes = block.bytes;
                if bytes.last() != Some(&b'\n') {
                    bytes.push(b'\n');
                }
                self.warmed = true;
                let not_after = Some(blocks.meta().mtime_ns.div_euclid(1_000_000_000));
                return Turn::Lines(Lines { stream: self.name.clone(), file: file.id, bytes, warm: block.warm, not_after });
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

    /// Lines before the first new one of this run.
    fn context(&mut self, at: usize) -> Option<Lines> {
        if self.warmed {
            return None;
        }
        let file = self.files.get_mut(at)?;
        let mut bytes = match &mut file.phase {
            Phase::Plain(p) if p.consumed > 0 => std::mem::take(&mut p.warm),
            Phase::Packed(b) if b.consumed() > 0 => return None, // gives its own
            _ => Vec::new(),
        };
        self.warmed = true;
        if let Some((path, inode, length)) = self.before.take().filter(|_| bytes.is_empty()) {
            bytes = warm_of(&path, inode, length).unwrap_or_default();
        }
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |n| n + 1);
        bytes.truncate(whole);
        (whole > 0).then(|| Lines { stream: self.name.clone(), file: file.id, bytes, warm: true, not_after: Some(file.stat.1.div_euclid(1_000_000_000)) })
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
            if plain.behind() > 0
                && let Some(lines) = self.context(at)
            {
                return Ok(Turn::Lines(lines));
            }
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
                Ok(Turn::Lines(Lines { stream: self.name.clone(), file: file.id, bytes, warm: false, not_after }))
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
                return Ok(Turn::Lines(Lines { stream: self.name.clone(), file: file.id, bytes, warm: false, not_after }));
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

    /// Files that begin like a live one are copies in the making, and nothing of them is new as long as
    /// the live one holds it.
    fn follow_copy(&mut self, at: usize, of: u64, seen: u64, shared: &mut Shared, now: Instant) -> io::Result<Turn> {
        if let Some(original) = self.files.iter().position(|f| f.id == of) {
            // What the original gave out it must hold still: a truncation has to be seen first.
            let truncated = match self.files.get_mut(original).map(|f| &mut f.phase) {
                Some(Phase::Plain(plain)) => plain.look(now)? == Look::Truncated,
                _ => false,
            };
            if truncated {
                self.truncated(original, shared, now);
            } else if self.still_copy(at, original, seen)? {
                return Ok(Turn::Next);
            }
        }
        let Some(file) = self.files.get_mut(at) else { return Ok(Turn::Next) };
        let Phase::Plain(plain) = &mut file.phase else { return Ok(Turn::Next) };
        // What the original did not give is to be given here.
        (file.copy, file.dirty, plain.at_end) = (None, true, false);
        match self.ghost.as_ref().filter(|g| g.id == of && plain.meets(g, true)) {
            Some(ghost) => plain.skip_ghost(ghost)?,
            None if plain.behind() > 0 => {
                if plain.consumed > 0 {
                    shared.known.push(FileState { complete: false, ..plain.state(&file.path, file.inode) });
                }
                shared.open = shared.open.saturating_sub(1);
                file.held = plain.file.take();
                file.phase = Phase::New;
            }
            None => {}
        }
        Ok(Turn::Again)
    }

    /// Whether the file is the beginning of another one still. Consumes what the other has given out.
    fn still_copy(&mut self, at: usize, original: usize, seen: u64) -> io::Result<bool> {
        let Some(other) = self.files.get(original) else { return Ok(false) };
        let (of, consumed) = match &other.phase {
            Phase::Plain(p) => (other.id, p.consumed),
            _ => (other.id, 0),
        };
        let handle = match other.handle() {
            Some(handle) => handle,
            None => Arc::new(File::open(&other.path)?),
        };
        let Some(file) = self.files.get_mut(at) else { return Ok(false) };
        let Phase::Plain(plain) = &mut file.phase else { return Ok(false) };
        if seen == consumed && plain.at_end {
            return Ok(true);
        }
        let same = plain.follow_copy(&handle, consumed.min(plain.size))?;
        let copy = plain.file.clone().unwrap_or_else(|| handle.clone());
        if !same || !same_start(&copy, &handle, plain.consumed, plain.size)? {
            return Ok(false);
        }
        plain.at_end = true;
        file.copy = Some((of, consumed));
        Ok(true)
    }

    /// The file was truncated, and begins anew. If it was copied before, the copy is found first.
    fn truncated(&mut self, at: usize, shared: &mut Shared, now: Instant) {
        let Some(file) = self.files.get_mut(at) else { return };
        let Phase::Plain(plain) = std::mem::replace(&mut file.phase, Phase::New) else { return };
        shared.open = shared.open.saturating_sub(usize::from(plain.file.is_some()));
        (file.dirty, file.copy, file.told, file.noted) = (true, None, None, 0);
        file.held = plain.file.clone();
        shared.scan_wanted = true;
        if plain.behind() > 0 {
            let text = format!("{}: truncated while {} bytes of it were not read; they are lost unless there is a copy", crate::source::shown(&file.path), plain.behind());
            shared.reports.note(&file.path, text);
        }
        if plain.consumed > 0 {
            let state = FileState { complete: true, ..plain.state(&file.path, file.inode) };
            if let Some(earlier) = plain.earlier_state(&file.path, file.inode) {
                shared.known.push(earlier);
            }
            self.ghost = Some(plain.ghost(file.id));
            shared.tell(&self.name, file.id, state);
        }
        file.id = shared.fresh_id();
        (file.since, file.used) = (now, false);
    }

    /// A scan saw the file.
    pub fn seen(file: &mut Tracked, name: Name, found: &Found, now: Instant) {
        let stat = stat_of(found);
        (file.path, file.name, file.gone) = (found.path.clone(), name, false);
        let changed = stat != file.stat;
        if changed {
            file.steady = now;
        }
        if matches!(file.phase, Phase::Settled(_)) {
            file.dirty |= changed;
            return;
        }
        file.stat = stat;
        match &file.phase {
            Phase::Failed(again) if changed || *again => (file.phase, file.dirty) = (Phase::New, true),
            Phase::New => file.dirty = true,
            // Looks may be due though the stat is the same: `Plain::look` knows.
            Phase::Plain(p) => file.dirty |= p.file.is_some() || stat != (p.size, p.mtime_ns),
            _ => {}
        }
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

/// Whether the bytes up to `until` are the same, which neither file ends before.
fn same_start(a: &File, b: &File, mut from: u64, until: u64) -> io::Result<bool> {
    if b.metadata()?.len() < until {
        return Ok(false);
    }
    let mut size = 4096;
    while from < until {
        let want = usize::try_from(until - from).unwrap_or(usize::MAX).min(size);
        let (mut x, mut y) = (vec![0; want], vec![0; want]);
        if read_full(a, from, &mut x)? < want || read_full(b, from, &mut y)? < want || x != y {
            return Ok(false);
        }
        from += want as u64;
        size = 256 * 1024;
    }
    Ok(true)
}

/// The last whole lines before `length` of a plain file.
fn warm_of(path: &Path, inode: (u64, u64), length: u64) -> Option<Vec<u8>> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let mut magic = [0; 10];
    read_full(&file, 0, &mut magic).ok()?;
    if (meta.dev(), meta.ino()) != inode || Compression::detect(&magic) != Compression::Plain {
        return None;
    }
    let from = length.saturating_sub(WARM_LEN as u64);
    let mut bytes = vec![0; usize::try_from(length - from).ok()?];
    let got = read_full(&file, from, &mut bytes).ok()?;
    bytes.truncate(got);
    let start = if from == 0 { 0 } else { memchr::memchr(b'\n', &bytes)? + 1 };
    Some(bytes.split_off(start))
}
