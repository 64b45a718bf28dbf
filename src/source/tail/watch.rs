//! Notifications about folders, as hints. They come in a thread of the notify crate, that only puts
//! them into a bounded channel; what does not fit becomes one "anything may have happened".

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::Hint;
use crate::source::live::Wake;

/// Hints in the channel.
const IN_FLIGHT: usize = 1024;

pub(super) struct Watch {
    watcher: RecommendedWatcher,
    hints: Receiver<Hint>,
    lost: Arc<AtomicBool>,
    folders: HashMap<PathBuf, (u64, u64)>,
}

impl Watch {
    pub fn new(wake: Wake) -> notify::Result<Watch> {
        let (sender, hints) = sync_channel(IN_FLIGHT);
        let lost = Arc::new(AtomicBool::new(false));
        let sink = Sink { sender, lost: lost.clone() };
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if sink.take(event) {
                wake();
            }
        })?;
        Ok(Watch { watcher, hints, lost, folders: HashMap::new() })
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Hint> {
        let mut out: Vec<Hint> = self.hints.try_iter().collect();
        if self.lost.swap(false, Ordering::Relaxed) {
            out.push(Hint::Anything);
        }
        out
    }

    /// Watches these folders and no others. A folder that is a new one under its old name is watched
    /// anew. `Err`: the first that cannot be watched; the others are.
    pub fn sync(&mut self, folders: &BTreeSet<PathBuf>) -> Result<(), (PathBuf, notify::Error)> {
        let mut result = Ok(());
        let watcher = &mut self.watcher;
        self.folders.retain(|path, inode| {
            let stays = folders.contains(path) && inode_of(path) == Some(*inode);
            if !stays {
                let _ = watcher.unwatch(path); // the kernel may have ended it already
            }
            stays
        });
        for path in folders {
            let Some(inode) = inode_of(path).filter(|_| !self.folders.contains_key(path)) else { continue };
            match self.watcher.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(path.clone(), inode);
                }
                Err(e) if result.is_ok() => result = Err((path.clone(), e)),
                Err(_) => {}
            }
        }
        result
    }
}

fn inode_of(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

pub(super) struct Sink {
    pub sender: SyncSender<Hint>,
    pub lost: Arc<AtomicBool>,
}

impl Sink {
    /// Whether somebody should look.
    pub fn take(&self, event: notify::Result<Event>) -> bool {
        let Ok(event) = event else {
            self.lost.store(true, Ordering::Relaxed);
            return true;
        };
        if event.need_rescan() {
            self.lost.store(true, Ordering::Relaxed);
            return true;
        }
        let written = match event.kind {
            EventKind::Access(_) => return false, // our own reading
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => true,
            _ => false,
        };
        for path in event.paths {
            let hint = if written { Hint::Written(path) } else { Hint::Folder(path) };
            if self.sender.try_send(hint).is_err() {
                self.lost.store(true, Ordering::Relaxed);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{AccessKind, CreateKind, DataChange, Flag};

    fn sink(room: usize) -> (Sink, Receiver<Hint>) {
        let (sender, hints) = sync_channel(room);
        (Sink { sender, lost: Arc::new(AtomicBool::new(false)) }, hints)
    }

    #[test]
    fn an_overflow_and_a_full_channel_mean_that_anything_may_have_happened() {
        let (sink, hints) = sink(2);
        let written = || Ok(Event::new(EventKind::Modify(ModifyKind::Data(DataChange::Any))).add_path("/a/b".into()));
        assert!(!sink.take(Ok(Event::new(EventKind::Access(AccessKind::Any)).add_path("/a/b".into()))), "reading is no news");
        assert!(sink.take(written()) && sink.take(Ok(Event::new(EventKind::Create(CreateKind::File)).add_path("/a/c".into()))));
        assert!(!sink.lost.load(Ordering::Relaxed));
        assert!(sink.take(written()));
        assert!(sink.lost.swap(false, Ordering::Relaxed), "the third one did not fit");
        assert_eq!(hints.try_iter().collect::<Vec<_>>(), [Hint::Written("/a/b".into()), Hint::Folder("/a/c".into())]);
        // The kernel's queue has overflowed: an event without a path.
        assert!(sink.take(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan))));
        assert!(sink.lost.swap(false, Ordering::Relaxed));
        assert!(sink.take(Err(notify::Error::generic("broken"))));
        assert!(sink.lost.load(Ordering::Relaxed));
        assert_eq!(hints.try_iter().count(), 0);
    }
}
