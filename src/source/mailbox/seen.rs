//! Which mails of a folder were given, in 256 documents, so that a new mail rewrites little.

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Document {
    mailbox: String,
    shard: u8,
    /// 16 hexadecimal digits a mail.
    mails: String,
}

pub(super) struct Seen {
    mailbox: String,
    shards: BTreeMap<u8, BTreeSet<u64>>,
    changed: BTreeSet<u8>,
}

fn shard(name: u64) -> u8 {
    (name >> 56) as u8
}

impl Seen {
    pub(super) fn new(path: &Path, known: &[String]) -> Self {
        let path = path.canonicalize().unwrap_or_else(|_| path.into());
        let mut seen = Seen { mailbox: path.to_string_lossy().into_owned(), shards: BTreeMap::new(), changed: BTreeSet::new() };
        let documents = known.iter().filter(|k| k.contains("\"mails\"")).filter_map(|k| serde_json::from_str::<Document>(k).ok());
        for d in documents.filter(|d| d.mailbox == seen.mailbox) {
            let names = d.mails.as_bytes().chunks(16).filter_map(|c| u64::from_str_radix(std::str::from_utf8(c).ok()?, 16).ok());
            seen.shards.entry(d.shard).or_default().extend(names);
        }
        seen
    }

    pub(super) fn has(&self, name: u64) -> bool {
        self.shards.get(&shard(name)).is_some_and(|s| s.contains(&name))
    }

    pub(super) fn add(&mut self, name: u64) {
        if self.shards.entry(shard(name)).or_default().insert(name) {
            self.changed.insert(shard(name));
        }
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, there: &FxHashSet<u64>) {
        for (shard, names) in &mut self.shards {
            let before = names.len();
            names.retain(|n| there.contains(n));
            if names.len() < before {
                self.changed.insert(*shard);
            }
        }
    }

    pub(super) fn states(&mut self) -> Vec<(String, String)> {
        let of = xxhash_rust::xxh3::xxh3_64(self.mailbox.as_bytes());
        let changed = std::mem::take(&mut self.changed);
        let document = |shard: u8| {
            let names = self.shards.get(&shard).into_iter().flatten();
            let mails = names.map(|n| format!("{n:016x}")).collect::<String>();
            let json = serde_json::to_string(&Document { mailbox: self.mailbox.clone(), shard, mails }).ok()?;
            Some((format!("mailbox/{of:016x}/{shard:02x}"), json))
        };
        changed.into_iter().filter_map(document).collect()
    }
}
