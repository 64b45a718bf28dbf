//! Which files the patterns mean at the moment, by looking at the folders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::source::SourceError;
use crate::source::discover::{Found, Members, is_journal, sort};
use crate::source::order::name_of;

/// Most folders that patterns may come to; further ones are left out and reported.
const MAX_FOLDERS: usize = 10_000;
/// Most files that are looked at.
const MAX_FILES: usize = 200_000;
/// How deep `**` goes.
const MAX_DEPTH: usize = 16;

const MATCH: MatchOptions = MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What the folders showed.
#[derive(Default)]
pub(super) struct Scan {
    /// By name (real folder, and the name siblings share), each oldest first.
    pub streams: BTreeMap<PathBuf, Members>,
    /// Folders that should be watched: by the path that leads there.
    pub folders: BTreeSet<PathBuf>,
    /// Real folders that could not be read: what was there before may still be there.
    pub unsure: BTreeSet<PathBuf>,
    /// What could not be looked at.
    pub problems: Vec<SourceError>,
    /// Plain names (no wildcards) without a file, live or rotated.
    pub missing: Vec<PathBuf>,
}

/// Folders to read, each with the names wanted there.
type Wanted = BTreeMap<PathBuf, Vec<Pattern>>;

/// Looks at everything that `patterns` mean.
pub(super) fn scan(patterns: &[PathBuf]) -> Scan {
    let mut out = Scan::default();
    let mut wanted = Wanted::new();
    for pattern in patterns {
        want(pattern, &mut wanted, &mut out);
    }
    let mut found: HashMap<(u64, u64), (PathBuf, Found)> = HashMap::new();
    for (folder, names) in &wanted {
        out.folders.insert(folder.clone());
        if let Err(e) = read_folder(folder, names, &mut found, &mut out) {
            // A folder that is not there (yet) is no trouble: its files are missed below.
            if e.kind() != io::ErrorKind::NotFound {
                out.unsure.insert(fs::canonicalize(folder).unwrap_or_else(|_| folder.clone()));
                out.problems.push(SourceError::from_io(folder, "read the folder", e));
            }
        }
    }
    for (folder, file) in found.into_values() {
        let name = name_of(file.path.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
        if file.linked
            && let Some(parent) = fs::canonicalize(&file.path).ok().as_deref().and_then(Path::parent)
        {
            out.folders.insert(parent.to_path_buf());
        }
        out.streams.entry(folder.join(OsStr::from_bytes(&name.stem))).or_default().push((name, file));
    }
    out.streams.values_mut().for_each(|members| sort(members));
    let literal = patterns.iter().filter(|p| !is_wild(p.as_os_str()));
    let missed = literal.filter(|p| {
        let folder = fs::canonicalize(parent_of(p)).unwrap_or_default();
        let name = name_of(p.file_name().map(OsStrExt::as_bytes).unwrap_or_default());
        !p.is_dir() && !out.streams.contains_key(&folder.join(OsStr::from_bytes(&name.stem)))
    });
    out.missing = missed.cloned().collect();
    out
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_wild(part: &OsStr) -> bool {
    part.as_bytes().iter().any(|b| b"*?[".contains(b))
}

/// A name as a pattern; undecodable bytes are matched as their replacement.
fn pattern_of(name: &OsStr) -> Option<Pattern> {
    let text = name.to_string_lossy();
    if is_wild(name) {
        return Pattern::new(&text).ok();
    }
    Pattern::new(&Pattern::escape(&text)).ok()
}

fn want(pattern: &Path, wanted: &mut Wanted, out: &mut Scan) {
    if !is_wild(pattern.as_os_str()) {
        let (folder, name) =
            if pattern.is_dir() { (pattern, OsStr::new("*")) } else { (parent_of(pattern), pattern.file_name().unwrap_or_default()) };
        wanted.entry(folder.to_path_buf()).or_default().extend(pattern_of(name));
        return;
    }
    let parts: Vec<&OsStr> = pattern.components().map(Component::as_os_str).collect();
    let Some((leaf, parts)) = parts.split_last() else { return };
    let fixed = parts.iter().take_while(|p| !is_wild(p)).count();
    let (base, rest) = parts.split_at_checked(fixed).unwrap_or_default();
    let base: PathBuf = if base.is_empty() { PathBuf::from(".") } else { base.iter().collect() };
    let Some(leaf) = pattern_of(leaf) else {
        let (what, hint) = ("no valid glob", "write *, ?, [a-z], or ** as a whole part");
        out.problems.push(SourceError::Unsupported { path: pattern.to_path_buf(), what, hint });
        return;
    };
    let mut walk = Walk { leaf, wanted, out };
    walk.down(base, rest, 0);
}

struct Walk<'a> {
    leaf: Pattern,
    wanted: &'a mut Wanted,
    out: &'a mut Scan,
}

impl Walk<'_> {
    fn down(&mut self, folder: PathBuf, rest: &[&OsStr], depth: usize) {
        if self.wanted.len() >= MAX_FOLDERS || depth > MAX_DEPTH {
            let (what, hint) = ("more folders, or deeper ones, than are followed", "name fewer folders");
            self.out.problems.push(SourceError::Unsupported { path: folder, what, hint });
            return;
        }
        let Some((part, after)) = rest.split_first() else {
            self.wanted.entry(folder).or_default().push(self.leaf.clone());
            return;
        };
        let any_depth = part.as_bytes() == b"**";
        if !any_depth && !is_wild(part) {
            return self.down(folder.join(part), after, depth);
        }
        let pattern = pattern_of(part);
        // New folders in it are news, too.
        self.out.folders.insert(folder.clone());
        for name in subfolders(&folder, self.out) {
            let path = folder.join(&name);
            if any_depth {
                if !path.is_symlink() && !name.as_bytes().starts_with(b".") {
                    self.down(path, rest, depth + 1);
                }
            } else if pattern.as_ref().is_some_and(|p| p.matches_with(&name.to_string_lossy(), MATCH)) {
                self.down(path, after, depth);
            }
        }
        if any_depth {
            self.down(folder, after, depth);
        }
    }
}

fn subfolders(folder: &Path, out: &mut Scan) -> Vec<std::ffi::OsString> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(Result::ok).filter(|e| e.path().is_dir()).map(|e| e.file_name()).collect(),
        Err(e) => {
            if e.kind() != io::ErrorKind::NotFound {
                out.unsure.insert(fs::canonicalize(folder).unwrap_or_else(|_| folder.to_path_buf()));
                out.problems.push(SourceError::from_io(folder, "read the folder", e));
            }
            Vec::new()
        }
    }
}

fn read_folder(folder: &Path, names: &[Pattern], found: &mut HashMap<(u64, u64), (PathBuf, Found)>, out: &mut Scan) -> io::Result<()> {
    let real = fs::canonicalize(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let stem = name_of(name.as_bytes()).stem;
        let (text, stem) = (name.to_string_lossy(), String::from_utf8_lossy(&stem));
        if !names.iter().any(|p| p.matches_with(&text, MATCH) || p.matches_with(&stem, MATCH)) || is_journal(Path::new(&name)) {
            continue;
        }
        let path = entry.path();
        let linked = entry.file_type().is_ok_and(|t| t.is_symlink());
        let meta = match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => meta,
            Ok(_) => continue,
            // Gone meanwhile, or a symlink that leads nowhere for now.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => {
                out.unsure.insert(real.clone());
                out.problems.push(SourceError::from_io(&path, "look at it", e));
                continue;
            }
        };
        if found.len() >= MAX_FILES {
            let (what, hint) = ("more files than are followed", "name fewer");
            out.problems.push(SourceError::Unsupported { path: folder.to_path_buf(), what, hint });
            break;
        }
        let file = Found::new(path, linked, &meta);
        match found.get_mut(&file.inode) {
            Some((_, old)) if (old.linked, &old.path) <= (file.linked, &file.path) => {}
            Some(old) => *old = (real.clone(), file),
            None => {
                found.insert(file.inode, (real.clone(), file));
            }
        }
    }
    Ok(())
}
