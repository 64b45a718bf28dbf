//! Truncation, and copies made before it (`copytruncate`).
//!
//! A rotated file that is, byte for byte, the beginning of the live one is a copy of it, perhaps in the
//! making: nothing in it is new as long as the live file holds it, too. When the live one has been
//! truncated, the copy has the lines that were not read before. It may also end before what was
//! read: what the live file had last is remembered ([`super::follow::Ghost`]), and passed over in the copy.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::follow::{Look, read_full};
use super::shared::Shared;
use super::stream::{Stream, Turn};
use super::tracked::Phase;
use crate::source::{FileState, Opened};

impl Stream {
    /// Looks whether what was consumed of the others is still there.
    pub(super) fn see_truncations(&mut self, except: usize, shared: &mut Shared, now: Instant) -> io::Result<()> {
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

    /// The live file of which this one is the beginning, byte for byte.
    pub(super) fn original_of(&self, at: usize, opened: &Opened) -> Option<u64> {
        let copy = self.files.get(at).filter(|f| !f.name.compressed)?;
        let live = self.files.iter().find(|f| f.live && !f.gone && f.id != copy.id && !f.name.compressed)?;
        let file = live.handle().or_else(|| File::open(&live.path).ok().map(Arc::new))?;
        same_start(&opened.handle, &file, 0, opened.meta().size).ok().filter(|same| *same).map(|_| live.id)
    }

    /// Files that begin like a live one are copies in the making, and nothing of them is new as long as
    /// the live one holds it.
    pub(super) fn follow_copy(&mut self, at: usize, of: u64, seen: u64, shared: &mut Shared, now: Instant) -> io::Result<Turn> {
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
    pub(super) fn truncated(&mut self, at: usize, shared: &mut Shared, now: Instant) {
        let Some(file) = self.files.get_mut(at) else { return };
        let Phase::Plain(plain) = std::mem::replace(&mut file.phase, Phase::New) else { return };
        shared.open = shared.open.saturating_sub(usize::from(plain.file.is_some()));
        (file.dirty, file.copy, file.told, file.noted) = (true, None, None, 0);
        file.held = plain.file.clone();
        shared.scan_wanted = true;
        if plain.behind() > 0 {
            let text = format!(
                "{}: truncated while {} bytes of it were not read; they are lost unless there is a copy",
                crate::source::shown(&file.path),
                plain.behind()
            );
            shared.reports.note(&file.path, text);
        }
        if plain.consumed > 0 {
            let state = FileState { complete: true, ends: plain.ends(usize::MAX), ..plain.state(&file.path, file.inode) };
            if let Some(earlier) = plain.earlier_state(&file.path, file.inode) {
                shared.known.push(earlier);
            }
            self.ghost = Some(plain.ghost(file.id));
            shared.tell(&self.name, file.id, state);
        }
        file.id = shared.fresh_id();
        (file.since, file.used) = (now, false);
    }
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
