//! Problems: told once when they begin and once when they are over.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::source::live::Problem;

/// What a problem is about, so that one file may have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// There is no such file.
    Missing,
    /// A folder, or an entry of it, cannot be looked at.
    Folder,
    /// It cannot be opened or read.
    Read,
    /// Descriptors have run out.
    Descriptors,
    /// Notifications are not to be had.
    Watch,
}

/// Most problems kept at once.
const MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Reports {
    active: BTreeMap<(Topic, PathBuf), String>,
    news: Vec<Problem>,
}

impl Reports {
    /// A problem is there (still).
    pub fn begin(&mut self, topic: Topic, path: &Path, text: String) {
        let key = (topic, path.to_path_buf());
        if self.active.contains_key(&key) || self.active.len() >= MAX {
            return;
        }
        self.news.push(Problem { path: path.to_path_buf(), text: text.clone(), over: false });
        self.active.insert(key, text);
    }

    /// It is not there (any more).
    pub fn end(&mut self, topic: Topic, path: &Path) {
        if self.active.is_empty() {
            return;
        }
        if let Some(text) = self.active.remove(&(topic, path.to_path_buf())) {
            self.news.push(Problem { path: path.to_path_buf(), text, over: true });
        }
    }

    /// Of this topic there are these problems, and no others.
    pub fn only(&mut self, topic: Topic, now: Vec<(PathBuf, String)>) {
        let over: Vec<PathBuf> =
            self.active.keys().filter(|(t, p)| *t == topic && !now.iter().any(|(q, _)| q == p)).map(|(_, p)| p.clone()).collect();
        over.iter().for_each(|path| self.end(topic, path));
        for (path, text) in now {
            self.begin(topic, &path, text);
        }
    }

    /// Something that happened, and is not a state.
    pub fn note(&mut self, path: &Path, text: String) {
        if self.news.len() < MAX {
            self.news.push(Problem { path: path.to_path_buf(), text, over: false });
        }
    }

    pub fn take(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.news)
    }

    /// What is wrong with a path at the moment.
    pub fn about(&self, path: &Path) -> Option<&String> {
        [Topic::Read, Topic::Missing, Topic::Folder].into_iter().find_map(|topic| self.active.get(&(topic, path.to_path_buf())))
    }

    pub fn any(&self, topic: Topic) -> bool {
        self.active.keys().any(|(t, _)| *t == topic)
    }

    /// Files that should be there and are not.
    pub fn missing(&self) -> impl Iterator<Item = &PathBuf> {
        self.active.keys().filter(|(topic, _)| *topic == Topic::Missing).map(|(_, path)| path)
    }

    /// What is wrong with everything: descriptors, notifications.
    pub fn general(&self) -> Option<&String> {
        self.active.iter().find(|((topic, _), _)| *topic == Topic::Descriptors).map(|(_, text)| text)
    }
}
