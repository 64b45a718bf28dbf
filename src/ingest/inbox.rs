//! Bindings handed to whoever writes the index (I5: one writer process).
//!
//! While a daemon holds the index, `msgtrk grant` and `msgtrk revoke` leave a file in the index's `inbox` folder; the daemon
//! commits what it asks for and then takes the file away. A crash between the two is harmless: the same event twice is
//! one (R1). No secret is ever in such a file, only its hash.

use super::bind::{Bind, change};
use crate::ledger::Change;
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A binding to be written to the record of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Key of the record.
    pub key: String,
    /// Envelope id.
    pub envelope_id: String,
    /// SHA-1 of the secret, base64 without padding.
    pub certifier: String,
    /// Until when, seconds since 1970; 0 takes it back.
    pub expires: Option<i64>,
    /// Only this recipient is shown.
    pub recipient: Option<String>,
    /// Who asked.
    pub by: String,
    /// When, microseconds since 1970.
    pub now: i64,
}

/// Most bytes of one file, and most files that are taken at a time.
const MOST_BYTES: u64 = 4 << 20;
const MOST_FILES: usize = 256;

fn folder(index: &Path) -> PathBuf {
    index.join("inbox")
}

/// The changes that requests ask for; one whose record is gone is left out.
///
/// # Errors
/// When the index cannot be read.
pub fn changes(store: &Store, requests: &[Request]) -> Result<Vec<Change>, StoreError> {
    let mut all = Vec::new();
    for r in requests {
        let bind = Bind {
            envelope_id: &r.envelope_id,
            certifier: &r.certifier,
            expires: r.expires,
            recipient: r.recipient.as_deref(),
            by: &r.by,
            now: r.now,
        };
        match store.get(&r.key)?.map(|record| change(&record, &bind)) {
            Some(Ok(c)) => all.push(c),
            Some(Err(e)) => tracing::warn!(error = %e, "a binding was left out"),
            None => tracing::warn!(key = %r.key, "a binding was left out: no such record"),
        }
    }
    Ok(all)
}

/// Leaves requests for the process that writes the index; whole or not at all. The file is gone once they are committed.
///
/// # Errors
/// When the file cannot be written.
pub fn post(index: &Path, requests: &[Request]) -> io::Result<PathBuf> {
    let dir = folder(index);
    std::fs::create_dir_all(&dir)?;
    let mut file = tempfile::Builder::new().prefix(".new").tempfile_in(&dir)?;
    serde_json::to_writer(&mut file, requests)?;
    file.flush()?;
    file.as_file().sync_all()?;
    let name = file.path().file_name().map(|n| n.to_string_lossy().trim_start_matches(".new").to_string()).unwrap_or_default();
    let path = dir.join(format!("{name}.json"));
    file.persist_noclobber(&path)?;
    Ok(path)
}

/// For the process that writes: what lies in the inbox, each file with its requests, oldest name first. A file that says
/// nothing sensible is taken away with a warning. Commit the [`changes`], then [`done`].
pub fn pending(index: &Path) -> Vec<(PathBuf, Vec<Request>)> {
    let Ok(entries) = std::fs::read_dir(folder(index)) else { return vec![] };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    paths.truncate(MOST_FILES);
    let mut all = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(requests) => all.push((path, requests)),
            Err(e) => {
                tracing::warn!(path = %path.display(), error = %e, "taken away: no request");
                done(&path);
            }
        }
    }
    all
}

fn read(path: &Path) -> io::Result<Vec<Request>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MOST_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}

/// What a file asked for is committed.
pub fn done(path: &Path) {
    if let Err(e) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), error = %e, "a request stays");
    }
}
