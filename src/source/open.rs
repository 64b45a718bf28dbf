//! Opening one file: stat, compression by content, the bytes.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::decompress::{Decompressor, RawInput};
use super::discover::{FileKind, SourceFile};
use super::identity::Resume;
use super::{BINARY_PROBE, HEAD_LEN, Limits, SourceError, utf16};

/// How a file is compressed or encoded, told by its first bytes, never by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    Plain,
    /// RFC 1952, any number of members.
    Gzip,
    /// Any number of streams.
    Bzip2,
    /// The .xz container, any number of streams.
    Xz,
    /// RFC 8878, any number of frames, skippable ones too.
    Zstd,
    /// UTF-16, the low byte first, with or without a byte order mark (Microsoft's reports). Read as UTF-8; such a file does not grow.
    Utf16Le,
    /// UTF-16, the high byte first.
    Utf16Be,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compression::Plain => "plain",
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
            Compression::Utf16Le | Compression::Utf16Be => "UTF-16",
        })
    }
}

impl Compression {
    const MAGIC: usize = 10;

    /// By the first bytes of a file (10 are enough).
    pub fn detect(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
                if rest.starts_with(b"\x31\x41\x59\x26\x53\x59") || rest.starts_with(b"\x17\x72\x45\x38\x50\x90") =>
            {
                Compression::Bzip2
            }
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            _ => match utf16::detect(head) {
                Some(false) => Compression::Utf16Le,
                Some(true) => Compression::Utf16Be,
                None => Compression::Plain,
            },
        }
    }

    /// Whether a further member may begin with these (at most a few) bytes.
    pub(super) fn may_begin(self, head: &[u8]) -> bool {
        let like = |magic: &[u8]| head.iter().zip(magic).all(|(a, b)| a == b);
        match self {
            Compression::Plain | Compression::Utf16Le | Compression::Utf16Be => true,
            Compression::Gzip => like(b"\x1f\x8b"),
            Compression::Bzip2 => like(b"BZh"),
            Compression::Xz => like(b"\xfd7zX"),
            Compression::Zstd => {
                like(b"\x28\xb5\x2f\xfd")
                    || head.first().is_some_and(|b| b & 0xf0 == 0x50) && head.iter().zip(b"\0\x2a\x4d\x18").skip(1).all(|(a, b)| a == b)
            }
        }
    }
}

/// What the file system said when the file was opened, before its first byte was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meta {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Bytes on disk.
    pub size: u64,
    /// Nanoseconds since 1970; stops at the ends of the type's range.
    pub mtime_ns: i64,
}

/// An open file of which nothing, or its head, was read.
pub struct Opened {
    pub(super) file: SourceFile,
    pub(super) handle: Arc<File>,
    /// A file that can be read again, and has an identity.
    pub(super) regular: bool,
    /// NUL bytes are no proof of binary data: a live log has them where it was truncated under its writer.
    pub(super) holes: bool,
    pub(super) meta: Meta,
    pub(super) limits: Limits,
    /// `Some` once the head was read.
    pub(super) bytes: Option<Bytes>,
    pub(super) head: Vec<u8>,
    pub(super) resume: Option<Resume>,
}

/// Opens a file and asks for its size and time. Reads nothing: what is wrong inside (binary,
/// damaged) is told by [`super::Known::recall`] or [`super::Blocks::new`].
///
/// # Errors
/// [`SourceError::Missing`], [`SourceError::Denied`], [`SourceError::Io`] (too many open files).
pub fn open(file: &SourceFile, limits: &Limits) -> Result<Opened, SourceError> {
    let handle = match file.kind {
        FileKind::Stdin => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        FileKind::File | FileKind::Stream => File::open(&file.path),
    };
    let handle = handle.map_err(|e| SourceError::from_io(&file.path, "open it", e))?;
    opened(file, Arc::new(handle), limits)
}

/// As [`open`], for a file that is open already.
pub(super) fn opened(file: &SourceFile, handle: Arc<File>, limits: &Limits) -> Result<Opened, SourceError> {
    let stat = handle.metadata().map_err(|e| SourceError::from_io(&file.path, "look at it", e))?;
    if stat.is_dir() {
        let path = file.path.clone();
        return Err(SourceError::Unsupported { path, what: "a folder, where a file was", hint: "run again" });
    }
    let mtime_ns = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
    let mtime_ns = mtime_ns.clamp(i64::MIN.into(), i64::MAX.into()).try_into().unwrap_or(0);
    Ok(Opened {
        file: file.clone(),
        regular: file.kind == FileKind::File && stat.is_file(),
        holes: false,
        meta: Meta { dev: stat.dev(), ino: stat.ino(), size: stat.size(), mtime_ns },
        handle,
        limits: limits.clone(),
        bytes: None,
        head: Vec::new(),
        resume: None,
    })
}

impl Opened {
    /// As in [`SourceFile::path`].
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Stat at the time of opening. Of little meaning for streams.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether another file stood here when it was discovered: it was rotated in between, so run
    /// [`super::discover()`] once more at the end, to find where the other one went.
    pub fn replaced(&self) -> bool {
        self.regular && self.file.inode.is_some_and(|id| id != (self.meta.dev, self.meta.ino))
    }

    /// Decompressed offset at which [`super::Blocks`] will go on: 0 unless a recall found a prefix.
    pub fn resume_offset(&self) -> u64 {
        self.resume.as_ref().map_or(0, |r| r.offset)
    }

    /// How it is compressed. Reads the head.
    ///
    /// # Errors
    /// As [`Opened::head`].
    pub fn compression(&mut self) -> Result<Compression, SourceError> {
        self.head()?;
        Ok(self.bytes.as_ref().map_or(Compression::Plain, |b| b.compression))
    }

    /// The first [`HEAD_LEN`] decompressed bytes, fewer only if there are no more (or damage).
    ///
    /// # Errors
    /// [`SourceError::Binary`], [`SourceError::Unsupported`], [`SourceError::Io`]. Damage is told
    /// later, when reading comes to it.
    pub fn head(&mut self) -> Result<&[u8], SourceError> {
        if self.bytes.is_none() {
            let mut bytes = self.start()?;
            let mut head = vec![0; HEAD_LEN];
            let got = bytes.read_ahead(&mut head);
            head.truncate(got);
            check_text(&self.file.path, &head, self.holes)?;
            self.head = head;
            self.bytes = Some(bytes);
        }
        Ok(&self.head)
    }

    /// Begins at the first byte again. Regular files only.
    pub(super) fn restart(&mut self) -> Result<(), SourceError> {
        self.resume = None;
        self.bytes = Some(self.start()?);
        Ok(())
    }

    fn start(&self) -> Result<Bytes, SourceError> {
        let input = RawInput { file: self.handle.clone(), at: self.regular.then_some(0) };
        Bytes::start(&self.file.path, input, &self.limits)
    }
}

fn check_text(path: &Path, head: &[u8], holes: bool) -> Result<(), SourceError> {
    let what = match head {
        [0x1f, 0x9d, ..] => Some("compressed with compress (.Z)"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive"),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some("a 7z archive"),
        [4, 0x22, 0x4d, 0x18, ..] => Some("compressed with lz4"),
        [b'L', b'Z', b'I', b'P', 1, ..] => Some("compressed with lzip"),
        _ => None,
    };
    if let Some(what) = what {
        let hint = "decompress it first (gzip, bzip2, xz and zstd are read as they are)";
        return Err(SourceError::Unsupported { path: path.to_path_buf(), what, hint });
    }
    let hole = if holes { head.iter().take_while(|b| **b == 0).count() } else { 0 };
    let head = head.get(hole..).unwrap_or_default();
    match memchr::memchr(0, head.get(..BINARY_PROBE).unwrap_or(head)) {
        Some(at) => Err(SourceError::Binary { path: path.to_path_buf(), position: at as u64 }),
        None => Ok(()),
    }
}

/// Decompressed bytes in order, with look-ahead.
pub(super) struct Bytes {
    path: PathBuf,
    pub compression: Compression,
    /// Bytes read ahead, given before all else, from `replay_at` on.
    replay: Vec<u8>,
    replay_at: usize,
    feed: Feed,
    /// Found while reading ahead, told after `replay`.
    pending: Option<SourceError>,
    disk: Arc<AtomicU64>,
}

enum Feed {
    Plain(RawInput),
    Thread(Decompressor),
}

impl Bytes {
    fn start(path: &Path, mut input: RawInput, limits: &Limits) -> Result<Bytes, SourceError> {
        let mut magic = Vec::with_capacity(Compression::MAGIC);
        let got = input.by_ref().take(Compression::MAGIC as u64).read_to_end(&mut magic);
        got.map_err(|e| SourceError::from_io(path, "read its first bytes", e))?;
        let compression = Compression::detect(&magic);
        let disk = Arc::new(AtomicU64::new(0));
        let (replay, feed) = if compression == Compression::Plain {
            disk.store(magic.len() as u64, Ordering::Relaxed);
            (magic, Feed::Plain(input))
        } else {
            let all = std::io::Cursor::new(magic).chain(input);
            (Vec::new(), Feed::Thread(Decompressor::start(path, compression, all, limits, disk.clone())?))
        };
        Ok(Bytes { path: path.to_path_buf(), compression, replay, replay_at: 0, feed, pending: None, disk })
    }

    /// Like [`Read::read`]; 0 is the end. An error is told once, then the end.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, SourceError> {
        if self.replay_at < self.replay.len() {
            let n = self.replay.get(self.replay_at..).unwrap_or_default().read(buf).unwrap_or(0);
            self.replay_at += n;
            return Ok(n);
        }
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        match &mut self.feed {
            Feed::Thread(thread) => thread.read(buf),
            Feed::Plain(input) => {
                let n = input.read(buf).map_err(|e| {
                    let at = self.disk.load(Ordering::Relaxed);
                    SourceError::from_io(&self.path, format!("read it at byte {at}"), e)
                })?;
                self.disk.fetch_add(n as u64, Ordering::Relaxed);
                Ok(n)
            }
        }
    }

    /// Reads until `buf` is full or nothing follows.
    pub fn read_full(&mut self, buf: &mut [u8]) -> (usize, Result<(), SourceError>) {
        let mut got = 0;
        while let Some(rest) = buf.get_mut(got..).filter(|r| !r.is_empty()) {
            match self.read(rest) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) => return (got, Err(e)),
            }
        }
        (got, Ok(()))
    }

    /// Copies the next bytes into `buf`; they are read again by later reads, as is an error met.
    pub fn read_ahead(&mut self, buf: &mut [u8]) -> usize {
        let (got, result) = self.read_full(buf);
        let mut replay = buf.get(..got).unwrap_or_default().to_vec();
        replay.extend_from_slice(self.replay.get(self.replay_at..).unwrap_or_default());
        (self.replay, self.replay_at) = (replay, 0);
        if let Err(e) = result {
            self.pending = Some(e);
        }
        got
    }

    /// Whether nothing follows, not even an error.
    pub fn at_end(&mut self) -> bool {
        self.read_ahead(&mut [0]) == 0 && self.pending.is_none()
    }

    /// Goes to a byte of a plain regular file. `false`: not possible here.
    pub fn seek(&mut self, offset: u64) -> bool {
        match &mut self.feed {
            Feed::Plain(RawInput { at: Some(at), .. }) => *at = offset,
            _ => return false,
        }
        self.replay.clear();
        self.replay_at = 0;
        self.pending = None;
        self.disk.store(offset, Ordering::Relaxed);
        true
    }

    /// Bytes of the file on disk used so far.
    pub fn disk_position(&self) -> u64 {
        self.disk.load(Ordering::Relaxed)
    }
}
