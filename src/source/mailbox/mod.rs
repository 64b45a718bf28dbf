//! Mailboxes with reports in them: Maildir, mbox, and folders of single mails. Each mail is given once.
//!
//! ```text
//! Mailbox::maildir|mbox|folder(path, known) ; next(most) -> mails ; states() -> documents for the same commit
//! ```
//! The mailbox is only read. What was given is remembered in small documents ([`Mailbox::states`]) that travel in the commit
//! of what the mails said (R2); a mail that is given twice all the same does no harm, since a report is named by its content (R1).
//! Of a mail at most [`MAX_MAIL`] bytes are held, however large it is.

mod mbox;
mod seen;
#[cfg(test)]
mod tests;

use super::{Compression, Opened, SourceError, SourceFile};
use mbox::{Mbox, is_from_line};
use rayon::prelude::*;
use seen::Seen;
use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most bytes of one mail that are read: headers and the first parts. A report stands before the mail it returns.
pub const MAX_MAIL: usize = 4 << 20;
/// Most bytes of mails that one [`Mailbox::next`] gives, the last one apart.
pub const MAX_BATCH: usize = 32 << 20;
/// Bytes of a file's beginning by which mails are told from logs.
const PROBE: usize = 8 * 1024;

/// A mail, or its first [`MAX_MAIL`] bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The bytes, with the line ends they have; quoting of an mbox undone.
    pub bytes: Vec<u8>,
    /// Bytes of the whole mail.
    pub size: u64,
    /// Seconds since 1970: when its file was last written. For mails that bear no date.
    pub received: i64,
    /// The file it is, or lies in.
    pub path: PathBuf,
}

/// What sort of file holds mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Mails one behind the other, each behind a `From ` line.
    Mbox,
    /// One mail.
    Mail,
}

/// Told by the first bytes of a file whether it holds mail; a log never looks so.
pub fn kind_of(head: &[u8]) -> Option<Kind> {
    let head = head.get(..PROBE.min(head.len())).unwrap_or_default();
    let mut lines = lines(head).filter(|l| !l.is_empty());
    let first = lines.next()?;
    if is_from_line(first) {
        return lines.next().filter(|l| is_field(l)).map(|_| Kind::Mbox);
    }
    is_header(head).then_some(Kind::Mail)
}

/// Lines as a mailbox's reader takes them: a file that has LFs ends its lines by them (or by CRLF), else by CR.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let end = if head.contains(&b'\n') { b'\n' } else { b'\r' };
    head.split(move |b| *b == end).map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

fn is_field(line: &[u8]) -> bool {
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    name.len() < line.len() && name.len() > 1 && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
}

/// Fields that nearly every mail has, lower case.
const USUAL: [&[u8]; 9] =
    [b"received", b"return-path", b"from", b"date", b"message-id", b"subject", b"to", b"mime-version", b"content-type"];

/// A block of header fields with at least two of the usual ones, up to an empty line (or as far as the bytes go).
fn is_header(head: &[u8]) -> bool {
    let mut usual = Vec::new();
    for (n, line) in lines(head).enumerate() {
        if line.is_empty() {
            break;
        }
        if n > 0 && line.starts_with(b" ") || line.starts_with(b"\t") {
            continue;
        }
        if !is_field(line) {
            // The last line of the bytes may be cut off.
            return usual.len() > 1 && n > 8;
        }
        let name = line.split(|b| *b == b':').next().unwrap_or_default().to_ascii_lowercase();
        if USUAL.contains(&name.as_slice()) && !usual.contains(&name) {
            usual.push(name);
        }
    }
    usual.len() > 1
}

/// Whether a folder is a Maildir.
pub fn is_maildir(folder: &Path) -> bool {
    folder.join("new").is_dir() && folder.join("cur").is_dir()
}

enum Sort {
    Maildir,
    Folder,
    Mbox(Box<Mbox>),
}

/// A mailbox that is read from time to time.
pub struct Mailbox {
    path: PathBuf,
    sort: Sort,
    seen: Seen,
    queue: VecDeque<PathBuf>,
}

impl Mailbox {
    /// A Maildir: `new` and `cur`, whatever is done to the mails' flags. `known` are the store's documents of sources.
    pub fn maildir(path: &Path, known: &[String]) -> Self {
        Mailbox { path: path.into(), sort: Sort::Maildir, seen: Seen::new(path, known), queue: VecDeque::new() }
    }

    /// Files of single mails in one folder.
    pub fn folder(path: &Path, files: Vec<PathBuf>, known: &[String]) -> Self {
        Mailbox { path: path.into(), sort: Sort::Folder, seen: Seen::new(path, known), queue: files.into() }
    }

    /// An mbox, plain (it may grow) or compressed.
    pub fn mbox(path: &Path, known: &[String]) -> Self {
        let mbox = Box::new(Mbox::new(path, known));
        Mailbox { path: path.into(), sort: Sort::Mbox(mbox), seen: Seen::new(path, &[]), queue: VecDeque::new() }
    }

    /// By what stands at the path: a Maildir, an mbox or a mail. `None`: neither (or an empty file).
    ///
    /// # Errors
    /// When the path cannot be read.
    pub fn open(path: &Path, known: &[String]) -> Result<Option<Self>, SourceError> {
        if path.is_dir() {
            return Ok(is_maildir(path).then(|| Mailbox::maildir(path, known)));
        }
        let mut opened = super::open(&SourceFile::new(path), &super::Limits::default())?;
        Ok(match kind_of(opened.head()?) {
            Some(Kind::Mbox) => Some(Mailbox::mbox(path, known)),
            Some(Kind::Mail) => {
                let parent = path.parent().unwrap_or(Path::new("."));
                Some(Mailbox::folder(parent, vec![path.into()], known))
            }
            None => None,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next mails that were not given yet, at most `most` and about [`MAX_BATCH`] bytes; none: there are no more now.
    ///
    /// `quiet_before`, seconds since 1970: the last mail of an mbox counts as whole only if the file was not written to since
    /// then. Whoever reads a finished file says `i64::MAX`.
    ///
    /// # Errors
    /// When the mailbox cannot be read; single mails that vanish meanwhile are left out, and found where they went.
    pub fn next(&mut self, most: usize, quiet_before: i64) -> Result<Vec<Mail>, SourceError> {
        if let Sort::Mbox(mbox) = &mut self.sort {
            return mbox.next(most, quiet_before);
        }
        if self.queue.is_empty() && matches!(self.sort, Sort::Maildir) {
            self.queue = self.list()?;
        }
        let mut mails = Vec::new();
        let mut bytes = 0;
        while mails.len() < most && bytes < MAX_BATCH && !self.queue.is_empty() {
            let some: Vec<PathBuf> = self.queue.drain(..self.queue.len().min(most - mails.len()).min(256)).collect();
            let folder = matches!(self.sort, Sort::Folder);
            let fresh: Vec<(PathBuf, u64)> = some
                .into_iter()
                .filter_map(|p| Some((name_of(&p, folder)?, p)))
                .filter(|(n, _)| !self.seen.has(*n))
                .map(|(n, p)| (p, n))
                .collect();
            let read: Vec<_> = fresh.into_par_iter().map(|(path, name)| (name, read_mail(&path), path)).collect();
            for (name, mail, path) in read {
                match mail {
                    Ok(mail) => {
                        self.seen.add(name);
                        bytes += mail.bytes.len();
                        mails.push(mail);
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                    // One mail that cannot be read must not keep the others from being read.
                    Err(e) => tracing::warn!("{}", SourceError::from_io(&path, "read it", e)),
                }
            }
        }
        Ok(mails)
    }

    /// What to remember, as documents (key, JSON) that replace those of the same key: only those that changed since the last call.
    /// They belong into the commit of what the mails given so far said.
    pub fn states(&mut self) -> Vec<(String, String)> {
        match &mut self.sort {
            Sort::Mbox(mbox) => mbox.state().into_iter().collect(),
            _ => self.seen.states(),
        }
    }

    /// The mails of a Maildir that were not given yet, oldest name first; forgets those that are gone.
    fn list(&mut self) -> Result<VecDeque<PathBuf>, SourceError> {
        let mut paths = Vec::new();
        let mut there = rustc_hash::FxHashSet::default();
        for part in ["new", "cur"] {
            let folder = self.path.join(part);
            let entries = std::fs::read_dir(&folder).map_err(|e| SourceError::from_io(&folder, "read the folder", e))?;
            for entry in entries {
                let path = entry.map_err(|e| SourceError::from_io(&folder, "read the folder", e))?.path();
                let hidden = path.file_name().is_none_or(|n| n.as_bytes().starts_with(b"."));
                let Some(name) = name_of(&path, false).filter(|_| !hidden) else { continue };
                there.insert(name);
                if !self.seen.has(name) {
                    paths.push(path);
                }
            }
        }
        self.seen.keep(&there);
        paths.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        Ok(paths.into())
    }
}

/// What a mail is known by: its name without flags; in a common folder also its size and time, since it can be another mail tomorrow.
fn name_of(path: &Path, folder: bool) -> Option<u64> {
    let name = path.file_name()?.as_bytes();
    let base = name.split(|b| *b == b':').next().unwrap_or(name);
    if !folder {
        return Some(xxhash_rust::xxh3::xxh3_64(base));
    }
    let meta = std::fs::metadata(path).ok()?;
    Some(xxhash_rust::xxh3::xxh3_64(format!("{}/{}/{}", path.display(), meta.len(), meta.mtime()).as_bytes()))
}

fn read_mail(path: &Path) -> std::io::Result<Mail> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    let mut bytes = Vec::with_capacity((meta.len() as usize).min(MAX_MAIL) + 1);
    file.take(MAX_MAIL as u64).read_to_end(&mut bytes)?;
    Ok(Mail { bytes, size: meta.len(), received: meta.mtime(), path: path.into() })
}
