//! What is kept, and how long: for the operator, by arrival. (How long a message can be tracked over MTQP is another clock.)
//!
//! * `retention_days`: records of messages that arrived longer ago are dropped; one that is still queued stays as long as it is heard of.
//! * `max_index_bytes`: the oldest go until the rest fits. Whole segments where that is possible ([`cut_for_size`]).
//! * `anonymize_after_days`: personal data of older records is masked, so many records at a time; a record bears a term
//!   that says so, hence nothing is done twice, and a late line brings its record back into the work.
//!
//! To drop something takes some room on the disk. A reserve file in the index folder is given up for that when the disk is full.

use super::backfill::Extra;
use super::commit::{Committer, Sink, Work};
use crate::config::{Anonymize, Retention};
use crate::model::record::StoredRecord;
use crate::model::redact::MaskKey;
use crate::model::redact::personal::{Masks, anonymized};
use crate::resolve::order::Order;
use crate::source::FileState;
use crate::store::{SegmentFigures, StoreError};
use rayon::prelude::*;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Microseconds of a day.
const DAY: i64 = 86_400 * 1_000_000;
/// Records that are masked in one commit.
const MASKED_AT_ONCE: usize = 2_000;
/// Commits of that kind in one run.
const COMMITS: usize = 5;
/// Name of the file with the key of masks.
const KEY: &str = "mask.key";
/// Name of the reserve.
const RESERVE: &str = "reserve";
/// Bytes of the reserve.
const RESERVED: u64 = 4 << 20;
/// With less room than this on the disk the reserve is given up, and not laid up, bytes.
const TIGHT: u64 = 4 * RESERVED;
/// When the folder is larger than allowed, segments of which more than this share is deleted are written anew.
const WORN: f64 = 0.125;

/// What one run of retention did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Records dropped.
    pub expired: u64,
    /// Records in which personal data was masked.
    pub masked: u64,
    /// There is more to mask; come again soon.
    pub more: bool,
}

/// Arrivals before this moment (microseconds since 1970, the beginning of a day) are not kept.
pub fn kept_from(retention: &Retention, now: i64) -> Option<i64> {
    retention.retention_days.map(|days| days_before(days, now))
}

fn days_before(days: u32, now: i64) -> i64 {
    now.saturating_sub(i64::from(days).saturating_mul(DAY)).div_euclid(DAY).saturating_mul(DAY)
}

/// Length of the windows of time that segments keep to, microseconds: a twelfth of what is kept, a day to 30 days.
pub fn window(retention: &Retention) -> i64 {
    retention.retention_days.map_or(30, |days| i64::from(days / 12).clamp(1, 30)) * DAY
}

/// Before which arrival records are to go so that about `limit` bytes are left; `None` when there are no more.
///
/// What is deleted but not merged away yet does not count. Oldest segments go as wholes; only of the newest a part.
pub fn cut_for_size(segments: &[SegmentFigures], limit: u64) -> Option<i64> {
    let live = |s: &SegmentFigures| (u128::from(s.bytes) * u128::from(s.alive) / u128::from((s.alive + s.deleted).max(1))) as u64;
    let mut total: u64 = segments.iter().map(live).sum();
    let mut dated: Vec<(i64, i64, u64)> = segments.iter().filter_map(|s| s.span.map(|(a, z)| (z, a, live(s)))).collect();
    dated.sort_unstable();
    let mut cut = None;
    for (n, &(newest, oldest, bytes)) in dated.iter().enumerate() {
        if total <= limit {
            break;
        }
        if n + 1 < dated.len() {
            cut = Some(newest.saturating_add(1));
            total = total.saturating_sub(bytes);
        } else {
            // Bytes lie about evenly over the time that a segment spans.
            let share = (total - limit) as f64 / bytes.max(1) as f64;
            let part = oldest.saturating_add(((newest.saturating_sub(oldest)) as f64 * share.min(1.0)) as i64);
            cut = cut.max(Some(part));
        }
    }
    cut
}

/// The key of an index' masks; made at the first call, readable by its owner only.
///
/// # Errors
/// When it cannot be read or made, or is none.
pub fn mask_key(dir: &Path) -> Result<MaskKey, StoreError> {
    let path = dir.join(KEY);
    let io = |doing| {
        let path = path.clone();
        move |source| StoreError::Io { doing, path, source }
    };
    let mut key = [0; 32];
    match std::fs::File::open(&path) {
        Ok(mut file) => file.read_exact(&mut key).map_err(io("read the masks' key"))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            getrandom::fill(&mut key).map_err(|e| io("make the masks' key")(std::io::Error::other(e.to_string())))?;
            // Whole or not at all, and the first one counts: two processes may do this at once.
            let mut file = tempfile::NamedTempFile::new_in(dir).map_err(io("make the masks' key"))?;
            let written = file.write_all(&key).and_then(|()| file.as_file().sync_all());
            written.map_err(io("make the masks' key"))?;
            if let Err(e) = file.persist_noclobber(&path) {
                return match e.error.kind() {
                    std::io::ErrorKind::AlreadyExists => mask_key(dir),
                    _ => Err(io("make the masks' key")(e.error)),
                };
            }
        }
        Err(e) => return Err(io("read the masks' key")(e)),
    }
    Ok(MaskKey::new(key))
}

/// Gives up the reserve; says whether there was one.
pub fn free_reserve(dir: &Path) -> bool {
    std::fs::remove_file(dir.join(RESERVE)).is_ok()
}

/// Whether there is little room left for a writer.
fn is_tight(dir: &Path) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|s| s.f_bavail.saturating_mul(s.f_frsize) < TIGHT)
}

/// Lays up the reserve, if there is room for it.
fn lay_up(dir: &Path) {
    let path = dir.join(RESERVE);
    if path.exists() || is_tight(dir) {
        return;
    }
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let filled = made.and_then(|mut f| std::io::copy(&mut std::io::repeat(0).take(RESERVED), &mut f));
    if filled.is_err() {
        let _ = std::fs::remove_file(&path);
    }
}

impl Committer<'_> {
    /// Does what a config says of retention, as of `now` (microseconds since 1970); of what is to be masked a part.
    ///
    /// # Errors
    /// As [`Sink::commit`]; the committer is to be dropped then.
    pub fn retain(&mut self, retention: &Retention, now: i64) -> Result<Done, StoreError> {
        self.writer.set_window(window(retention));
        let mut done = Done::default();
        if let Some(before) = kept_from(retention, now) {
            done.expired += self.expire(before)?;
        }
        if let Some(limit) = retention.max_index_bytes {
            if let Some(before) = cut_for_size(&self.store.segments()?, limit) {
                done.expired += self.expire(before)?;
            }
            if self.store.segments()?.iter().map(|s| s.bytes).sum::<u64>() > limit && self.writer.purge(WORN)?.merges > 0 {
                self.store.reload()?;
            }
        }
        if retention.retention_days.is_some() || retention.max_index_bytes.is_some() {
            lay_up(self.store.dir());
        }
        if let Some(days) = retention.anonymize_after_days {
            let masks = match retention.anonymize {
                Anonymize::Hash => Masks::Hashes,
                Anonymize::Drop => Masks::Numbers,
            };
            let before = days_before(days, now);
            let key = mask_key(self.store.dir())?;
            done.more = true;
            for _ in 0..COMMITS {
                match self.mask_some(before, &key, masks)? {
                    0 => {
                        done.more = false;
                        self.mask_sources(before)?;
                        break;
                    }
                    n => done.masked += n,
                }
            }
        }
        Ok(done)
    }

    fn expire(&mut self, before: i64) -> Result<u64, StoreError> {
        let count = self.store.count_expired(before)?;
        if count > 0 {
            if is_tight(self.store.dir()) {
                free_reserve(self.store.dir());
            }
            self.commit(Work { expire_before: Some(before), ..Work::default() })?;
        }
        Ok(count)
    }

    /// Masks some records that arrived before a time; says how many were looked at.
    fn mask_some(&mut self, before: i64, key: &MaskKey, masks: Masks) -> Result<u64, StoreError> {
        let found = self.store.plain_before(before, MASKED_AT_ONCE)?;
        if found.is_empty() {
            return Ok(0);
        }
        let count = found.len() as u64;
        let store = self.store;
        // Where the index cannot be read, the commit says so.
        let is_host = |name: &str| store.is_mail_host(name).unwrap_or(false);
        let pairs: Vec<(String, StoredRecord)> =
            found.into_par_iter().map(|r| (r.key.clone(), anonymized(&r, key, masks, &is_host).unwrap_or(r))).collect();
        let remove = pairs.iter().filter(|(key, new)| *key != new.key).map(|(key, _)| key.clone()).collect();
        let replace = pairs.into_iter().map(|(_, new)| new).collect();
        self.commit(Work { replace, masked: true, remove, ..Work::default() })?;
        Ok(count)
    }

    /// Takes lines out of the documents of files that were finished long ago: examples of unparsed ones, and what a sequel would want to know.
    fn mask_sources(&mut self, before: i64) -> Result<(), StoreError> {
        let mut sources = Vec::new();
        for (key, json) in self.store.source_documents()? {
            let Ok(mut state) = serde_json::from_str::<FileState>(&json) else { continue };
            let mut extra = Extra::of(&state);
            let old = extra.span.map_or(state.mtime_ns / 1000, |s| s.1) < before;
            if !old || extra.id.is_empty() {
                continue;
            }
            extra.counts.unparsed.values_mut().for_each(|u| u.examples.clear());
            extra.stream.order = Order::default();
            state.extra = serde_json::to_value(extra).unwrap_or_default();
            match serde_json::to_string(&state) {
                Ok(new) if new != json => sources.push((key, new)),
                _ => {}
            }
        }
        if sources.is_empty() {
            return Ok(());
        }
        self.commit(Work { sources, ..Work::default() }).map(drop)
    }
}

#[cfg(test)]
mod tests;
