//! From the paths of the command line to series of files, oldest first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::SourceError;
use super::order::{Name, name_of};

/// What the arguments came to.
#[derive(Debug, Default)]
pub struct Discovered {
    /// In the order of their paths; standard input and pipes last.
    pub series: Vec<Series>,
    /// What could not be taken, each once. The rest is not affected.
    pub problems: Vec<SourceError>,
    /// Entries of folders left out silently: journals, sockets, pipes, devices.
    pub skipped: u64,
}

/// A log and its rotated siblings: one stream of lines, cut into files.
#[derive(Debug, Clone)]
pub struct Series {
    /// Folder and the name that the siblings share, usually the live file's; `-` for standard input.
    pub name: PathBuf,
    /// Oldest first. Never empty.
    pub files: Vec<SourceFile>,
}

/// How a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file: it has an identity and can be read again.
    File,
    /// A pipe or a character device named on the command line: read once, never recalled.
    Stream,
    /// Standard input: read once, never recalled.
    Stdin,
}

/// One file to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As given, or as found under the folder given. `-` for standard input.
    pub path: PathBuf,
    /// How it is read.
    pub kind: FileKind,
    /// Device and inode when it was discovered; `None` if not known. [`super::Opened::replaced`]
    /// tells whether they still hold.
    pub inode: Option<(u64, u64)>,
}

impl SourceFile {
    /// A regular file, without looking at it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SourceFile { path: path.into(), kind: FileKind::File, inode: None }
    }

    /// Standard input.
    pub fn stdin() -> Self {
        SourceFile { path: PathBuf::from("-"), kind: FileKind::Stdin, inode: None }
    }
}

/// Finds all files that `paths` mean (files, folders with all below them, `-` for standard input)
/// and groups them into series. The result does not depend on the order of `paths`. A file that is
/// reached twice (named twice, symlinks, hard links) is there once, by its real path if there is
/// one. No file is opened; see [`super::open`] for what is wrong inside.
pub fn discover(paths: &[PathBuf]) -> Discovered {
    let mut walk = Walk::default();
    let mut stdin = false;
    let arguments: BTreeSet<&PathBuf> = paths.iter().collect();
    for path in arguments {
        if path.as_os_str() == "-" {
            stdin = true;
        } else {
            walk.visit(path, true, false);
        }
    }
    walk.folders();
    let mut out = group(walk.files.into_values());
    for path in walk.streams {
        let file = SourceFile { path: path.clone(), kind: FileKind::Stream, inode: None };
        out.series.push(Series { name: path, files: vec![file] });
    }
    if stdin {
        out.series.push(Series { name: PathBuf::from("-"), files: vec![SourceFile::stdin()] });
    }
    walk.problems.sort_by(|a, b| a.path().cmp(b.path()));
    out.problems = walk.problems;
    out.skipped = walk.skipped;
    out
}

/// A file as a folder shows it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub path: PathBuf,
    /// Reached through a symlink.
    pub linked: bool,
    pub inode: (u64, u64),
    pub size: u64,
    pub mtime: (i64, i64),
}

impl Found {
    pub fn new(path: PathBuf, linked: bool, meta: &Metadata) -> Found {
        Found { path, linked, inode: (meta.dev(), meta.ino()), size: meta.len(), mtime: (meta.mtime(), meta.mtime_nsec()) }
    }
}

#[derive(Default)]
struct Walk {
    files: HashMap<(u64, u64), Found>,
    streams: BTreeSet<PathBuf>,
    /// Folders to read. Those reached through a symlink come last, so that a folder with a real path
    /// is read by that.
    real: BTreeSet<(PathBuf, bool)>,
    linked: BTreeSet<PathBuf>,
    seen: HashSet<(u64, u64)>,
    problems: Vec<SourceError>,
    skipped: u64,
}

impl Walk {
    fn visit(&mut self, path: &Path, named: bool, through_link: bool) {
        let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_symlink());
        match fs::metadata(path) {
            Err(e) => self.problems.push(SourceError::from_io(path, "look at it", e)),
            Ok(meta) if meta.is_dir() && is_link => {
                self.linked.insert(path.to_path_buf());
            }
            Ok(meta) if meta.is_dir() => {
                self.real.insert((path.to_path_buf(), through_link));
            }
            Ok(meta) => self.file(path, &meta, named, is_link || through_link),
        }
    }

    fn file(&mut self, path: &Path, meta: &Metadata, named: bool, linked: bool) {
        let kind = meta.file_type();
        let problem = if is_journal(path) {
            Some(("a systemd journal, not a text log", "pipe it in: journalctl -o short-iso | msgtrk backfill -"))
        } else if kind.is_file() {
            None
        } else if named && (kind.is_fifo() || kind.is_char_device()) {
            self.streams.insert(path.to_path_buf());
            return;
        } else {
            Some(("not a file with lines (a socket or device)", "name the log file itself"))
        };
        if let Some((what, hint)) = problem {
            if named {
                self.problems.push(SourceError::Unsupported { path: path.to_path_buf(), what, hint });
            } else {
                self.skipped += 1;
            }
            return;
        }
        let found = Found::new(path.to_path_buf(), linked, meta);
        match self.files.get_mut(&found.inode) {
            Some(old) if (old.linked, &old.path) <= (found.linked, &found.path) => {}
            Some(old) => *old = found,
            None => {
                self.files.insert(found.inode, found);
            }
        }
    }

    fn folders(&mut self) {
        loop {
            let (path, through_link) = match self.real.pop_first() {
                Some(next) => next,
                None => match self.linked.pop_first() {
                    Some(path) => (path, true),
                    None => return,
                },
            };
            let entries = fs::metadata(&path).and_then(|m| Ok((m, fs::read_dir(&path)?)));
            let entries = match entries {
                Ok((meta, _)) if !self.seen.insert((meta.dev(), meta.ino())) => continue,
                Ok((_, entries)) => entries,
                Err(e) => {
                    self.problems.push(SourceError::from_io(&path, "read the folder", e));
                    continue;
                }
            };
            for entry in entries {
                match entry {
                    Ok(entry) => self.visit(&entry.path(), false, through_link),
                    Err(e) => self.problems.push(SourceError::from_io(&path, "read the folder", e)),
                }
            }
        }
    }
}

pub(super) fn is_journal(path: &Path) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.ends_with(b".journal") || name.ends_with(b".journal~")
}

/// The files of one series, with their names taken apart.
pub(super) type Members = Vec<(Name, Found)>;

fn group(files: impl Iterator<Item = Found>) -> Discovered {
    let mut folders: HashMap<PathBuf, PathBuf> = HashMap::new();
    let mut groups: BTreeMap<(PathBuf, Vec<u8>), Members> = BTreeMap::new();
    for found in files {
        let parent = match found.path.parent() {
            Some(p) if !p.as_os_str().is_empty() => p.to_path_buf(),
            _ => PathBuf::from("."),
        };
        let folder = folders.entry(parent).or_insert_with_key(|p| fs::canonicalize(p).unwrap_or_else(|_| p.clone())).clone();
        let name = name_of(found.path.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
        groups.entry((folder, name.stem.clone())).or_default().push((name, found));
    }
    let mut out = Discovered::default();
    for ((_, stem), mut members) in groups {
        sort(&mut members);
        let parent = members.last().and_then(|(_, f)| f.path.parent()).unwrap_or(Path::new(""));
        let name = parent.join(std::ffi::OsStr::from_bytes(&stem));
        let files = members.into_iter().map(|(_, f)| SourceFile { path: f.path, kind: FileKind::File, inode: Some(f.inode) }).collect();
        out.series.push(Series { name, files });
    }
    out
}

/// Oldest first: dated by date, numbered by falling number, the live file last. Where a series has
/// both (the rotation scheme was changed), the kind whose youngest file is older comes first.
pub(super) fn sort(members: &mut [(Name, Found)]) {
    let youngest = |dated: bool| {
        let of_kind = members.iter().filter(|(n, _)| if dated { n.date.is_some() } else { n.date.is_none() && n.number.is_some() });
        of_kind.map(|(_, f)| f.mtime).max()
    };
    let numbers_first = youngest(false) < youngest(true);
    members.sort_by_cached_key(|(name, found)| {
        let rank = match (name.date, name.number) {
            (None, None) => 2,
            (Some(_), _) => u8::from(numbers_first),
            (None, Some(_)) => u8::from(!numbers_first),
        };
        // `x.1` beside `x.1.gz` is being compressed: the whole one first. `x.gz` beside the live `x` is older.
        let compressed = name.compressed != (rank == 2);
        (rank, name.date, Reverse(name.number), compressed, found.path.clone())
    });
}
