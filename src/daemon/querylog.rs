//! Who asked what: one JSON object a line, appended to a file that only its owner may read.
//!
//! `{"time":"2026-03-02T08:00:00.5Z","who":{"uid":1000},"via":"cli","what":"search","asked":{"from":"a@b.example"}}`;
//! over MTQP `who` is `{"peer":"192.0.2.7"}`. What follows from id to id within one answer is not another question.
//! With `mode = "hashed"` ids, addresses and words stand as keyed hashes (16 hexadecimal digits; the key is the masks'
//! of the index): equal ones can be counted, and who has the key can test a guess.
//!
//! The file is opened for each line, so it can be moved or removed at any time (logrotate needs no signal). A question
//! that cannot be written down is not answered.

use crate::config::{self, QueryLogMode};
use crate::ingest::retention::mask_key;
use crate::model::redact::MaskKey;
use crate::model::redact::person::Person;
use crate::model::time::{Precision, rfc3339};
use crate::store::StoreError;
use serde_json::{Map, Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Name of the file in the index folder, unless the config names another.
const FILE: &str = "queries.jsonl";
/// The longest value that is written down, bytes; the rest is cut.
const MAX_VALUE: usize = 2048;
/// Names of what is asked by that are nobody's data: their values are never hashed.
const PLAIN: &[&str] = &["action", "status", "host", "mta", "direction", "since", "until", "size", "rejects", "sort", "limit"];

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A user of this machine.
    User(u32),
    /// A client of the MTQP server.
    Peer(IpAddr),
    /// Nobody knows.
    Unknown,
}

/// The log.
#[derive(Debug)]
pub struct QueryLog {
    file: PathBuf,
    key: Option<MaskKey>,
}

/// Where a config says that the log is, whether or not it is on.
pub fn file(config: &config::QueryLog, index: &Path) -> PathBuf {
    config.file.clone().unwrap_or_else(|| index.join(FILE))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    |source| StoreError::Io { doing: "write the query log", path: path.into(), source }
}

/// Opens the file and locks it, as it is under its name then.
fn locked(path: &Path, create: bool) -> io::Result<File> {
    loop {
        let made = create && !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(create).mode(0o600).open(path)?;
        file.lock()?;
        let own = file.metadata()?;
        if std::fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (own.dev(), own.ino())) {
            if made && let Some(Ok(folder)) = path.parent().map(std::fs::metadata) {
                // Made by root for a daemon that is not.
                let _ = std::os::unix::fs::fchown(&file, Some(folder.uid()), Some(folder.gid()));
            }
            return Ok(file);
        }
    }
}

impl QueryLog {
    /// The log that a config asks for; `None` where it asks for none.
    ///
    /// # Errors
    /// When the key of hashes cannot be read or made.
    pub fn of(config: &config::QueryLog, index: &Path) -> Result<Option<QueryLog>, StoreError> {
        let key = match config.mode {
            QueryLogMode::Off => return Ok(None),
            QueryLogMode::On => None,
            QueryLogMode::Hashed => Some(mask_key(index)?),
        };
        Ok(Some(QueryLog { file: file(config, index), key }))
    }

    /// Writes down a question: when (microseconds since 1970), who, by which way (`cli`, `control`, `mtqp`), what sort,
    /// and by what. To be called before it is answered.
    ///
    /// # Errors
    /// When it cannot be written; the question is not to be answered then.
    pub fn note(&self, now: i64, who: Asker, via: &str, what: &str, asked: &[(&str, String)]) -> Result<(), StoreError> {
        let who = match who {
            Asker::User(uid) => json!({ "uid": uid }),
            Asker::Peer(ip) => json!({ "peer": ip.to_string() }),
            Asker::Unknown => Value::Null,
        };
        let mut by = Map::new();
        for (name, value) in asked {
            let value = match &self.key {
                Some(key) if !PLAIN.contains(name) => key.hash(value.to_lowercase().as_bytes(), 16),
                _ => value.get(..value.floor_char_boundary(MAX_VALUE)).unwrap_or(value).to_string(),
            };
            by.insert((*name).to_string(), Value::String(value));
        }
        let mut line = json!({"time": rfc3339(now, Precision::Micro), "who": who, "via": via, "what": what, "asked": by}).to_string();
        line.push('\n');
        let mut file = locked(&self.file, true).map_err(failed(&self.file))?;
        file.write_all(line.as_bytes()).map_err(failed(&self.file))
    }
}

/// Takes a person out of a query log (or, with `dry_run`, only looks); says of how many lines. Rotated files are whoever's who rotates them.
///
/// # Errors
/// When it can be neither read nor written.
pub fn forget(path: &Path, person: &Person, dry_run: bool) -> Result<u64, StoreError> {
    let mut old = match locked(path, false) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(failed(path))?,
    };
    let mut text = Vec::new();
    old.read_to_end(&mut text).map_err(failed(path))?;
    let (mut new, mut lines) = (Vec::with_capacity(text.len()), 0);
    for line in text.split_inclusive(|b| *b == b'\n') {
        match person.masked(line) {
            Some(masked) => {
                lines += 1;
                new.extend_from_slice(&masked);
            }
            None => new.extend_from_slice(line),
        }
    }
    if lines > 0 && !dry_run {
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed(path))?;
        file.write_all(&new).map_err(failed(path))?;
        let owner = old.metadata().map_err(failed(path))?;
        let _ = std::os::unix::fs::fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()));
        file.persist(path).map_err(|e| failed(path)(e.error))?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Value> {
        std::fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn off_on_hashed_moved_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let of = |mode| QueryLog::of(&config::QueryLog { mode, file: None }, dir.path()).unwrap();
        assert!(of(QueryLogMode::Off).is_none());
        let (on, hashed) = (of(QueryLogMode::On).unwrap(), of(QueryLogMode::Hashed).unwrap());
        let path = dir.path().join(FILE);
        let asked = [("from", "Bob@b.example".to_string()), ("action", "failed".to_string())];
        on.note(0, Asker::User(7), "cli", "search", &asked).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let moved = dir.path().join("queries.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        hashed.note(0, Asker::Peer([192, 0, 2, 7].into()), "mtqp", "track", &asked).unwrap();
        hashed.note(0, Asker::Unknown, "mtqp", "track", &[("from", "bob@B.example".to_string())]).unwrap();
        assert_eq!(lines(&moved)[0]["asked"]["from"], "Bob@b.example");
        assert_eq!(lines(&moved)[0]["who"]["uid"], 7);
        let now = lines(&path);
        assert_eq!((now.len(), now[0]["who"]["peer"].as_str()), (2, Some("192.0.2.7")));
        assert_eq!(now[0]["asked"]["from"], now[1]["asked"]["from"]);
        assert_eq!(now[0]["asked"]["action"], "failed");
        assert!(!std::fs::read_to_string(&path).unwrap().contains("example\"}"));
        let person = Person::new("bob@b.example").unwrap();
        assert_eq!([true, false, false].map(|dry| forget(&moved, &person, dry).unwrap()), [1, 1, 0]);
        assert_eq!(lines(&moved)[0]["asked"]["from"], crate::model::redact::FORGOTTEN);
        assert_eq!(forget(&dir.path().join("none"), &person, false).unwrap(), 0);
    }
}
