//! A folder that stops at the first failed write.
//!
//! tantivy's threads go on after an error and may publish half a batch later. Behind this wrapper every
//! write after the first failed one fails too, so nothing can follow it; the error itself is kept, since
//! tantivy's own often says only that a worker died.
//!
//! It also lets those read who may not write there: the engine keeps some files for the owner alone, and while
//! an index is opened, a lock keeps the writer from removing files, for which it wants to write to the lock's file.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, META_LOCK, MmapDirectory, TerminatingWrite, WatchCallback, WatchHandle,
    WritePtr,
};

/// What all clones of a [`Guard`] share.
#[derive(Debug, Default)]
pub(super) struct Latch {
    shut: AtomicBool,
    busy: AtomicUsize,
    first: Mutex<Option<(PathBuf, io::Error)>>,
    /// Tests: the write operation (counted from 1) that fails; 0 is none.
    #[cfg(test)]
    pub(super) fail_at: AtomicUsize,
    /// Tests: write operations so far.
    #[cfg(test)]
    pub(super) writes: AtomicUsize,
}

impl Latch {
    /// Lets no write through any more and waits (at most 10 s) for those under way.
    pub(super) fn shut(&self) {
        self.shut.store(true, SeqCst);
        let start = Instant::now();
        while self.busy.load(SeqCst) > 0 && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The write that failed first, if one did. Taken: a second call has nothing.
    pub(super) fn take_error(&self) -> Option<(PathBuf, io::Error)> {
        self.first.lock().ok()?.take()
    }

    fn write<T>(&self, path: &Path, op: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.busy.fetch_add(1, SeqCst);
        let result = if self.shut.load(SeqCst) { Err(io::Error::other("stopped after an earlier error")) } else { self.try_write(op) };
        if let Err(e) = &result
            && !self.shut.swap(true, SeqCst)
            && let Ok(mut first) = self.first.lock()
        {
            let copy = e.raw_os_error().map_or_else(|| io::Error::new(e.kind(), e.to_string()), io::Error::from_raw_os_error);
            *first = Some((path.to_path_buf(), copy));
        }
        self.busy.fetch_sub(1, SeqCst);
        result
    }

    #[cfg(not(test))]
    fn try_write<T>(&self, op: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        op()
    }

    #[cfg(test)]
    fn try_write<T>(&self, op: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let n = self.writes.fetch_add(1, SeqCst) + 1;
        if n == self.fail_at.load(SeqCst) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        op()
    }
}

/// The index's folder, fail-stop. One instance an opening; clones share the latch.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    dir: PathBuf,
    inner: MmapDirectory,
    pub(super) latch: Arc<Latch>,
}

impl Guard {
    pub(super) fn new(dir: &Path, inner: MmapDirectory) -> Self {
        Guard { dir: dir.into(), inner, latch: Arc::default() }
    }

    /// The lock of an index that is being opened, taken without the right to write. Exclusive, as the engine's own:
    /// many readers that share it could keep the writer out for ever.
    fn read_only(&self, lock: &Lock) -> io::Result<DirectoryLock> {
        let file = File::open(self.dir.join(&lock.filepath))?;
        file.lock()?;
        Ok(DirectoryLock::from(Box::new(file)))
    }
}

/// Writes a file anew, whole or not at all. Who may read it is the umask's matter (the engine's own way makes it the owner's alone).
fn replace(path: &Path, data: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".new");
    let new = path.with_file_name(hidden);
    let mut file = File::create(&new)?;
    file.write_all(data)?;
    file.sync_data()?;
    std::fs::rename(&new, path)
}

fn may_only_read(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

struct Output {
    inner: WritePtr,
    path: PathBuf,
    latch: Arc<Latch>,
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let inner = &mut self.inner;
        self.latch.write(&self.path, || inner.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        let inner = &mut self.inner;
        self.latch.write(&self.path, || inner.flush())
    }
}

impl TerminatingWrite for Output {
    fn terminate_ref(&mut self, token: AntiCallToken) -> io::Result<()> {
        let inner = &mut self.inner;
        self.latch.write(&self.path, || inner.terminate_ref(token))
    }
}

impl Directory for Guard {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.inner.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        if self.latch.shut.load(SeqCst) {
            let io_error = Arc::new(io::Error::other("stopped after an earlier error"));
            return Err(DeleteError::IoError { io_error, filepath: path.to_path_buf() });
        }
        self.inner.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.inner.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let mut refused = None;
        let opened = self.latch.write(path, || match self.inner.open_write(path) {
            Ok(w) => Ok(w),
            Err(OpenWriteError::IoError { io_error, .. }) => Err(io::Error::new(io_error.kind(), io_error.to_string())),
            Err(e) => {
                let text = e.to_string();
                refused = Some(e);
                Err(io::Error::other(text))
            }
        });
        match (opened, refused) {
            (Ok(inner), _) => {
                let output = Output { inner, path: path.to_path_buf(), latch: self.latch.clone() };
                Ok(BufWriter::new(Box::new(output)))
            }
            (_, Some(e)) => Err(e),
            (Err(e), None) => Err(OpenWriteError::wrap_io_error(e, path.to_path_buf())),
        }
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        self.inner.atomic_read(path)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        self.latch.write(path, || replace(&self.dir.join(path), data))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.latch.write(Path::new("."), || self.inner.sync_directory())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        match self.inner.acquire_lock(lock) {
            Err(LockError::IoError(e)) if lock.filepath == META_LOCK.filepath && may_only_read(&e) => {
                self.read_only(lock).map_err(LockError::wrap_io_error)
            }
            other => other,
        }
    }

    fn watch(&self, watch_callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        self.inner.watch(watch_callback)
    }
}
