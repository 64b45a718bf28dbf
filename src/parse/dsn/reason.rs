//! Why a message was not delivered, in a word or two: `parsers/dsn/reasons.toml`, words of the diagnostic first, then the status.

use super::status::enhanced;
use crate::parse::file::ParserError;
use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReasons {
    reason: Vec<RawReason>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReason {
    name: String,
    /// Subject and detail of RFC 3463 (`1.1`), or a whole code (`4.2.2`).
    #[serde(default)]
    status: Vec<String>,
    /// What words for it alone are worth as a status, where that is not the first of `status`.
    #[serde(default)]
    stands_for: Option<String>,
    text: Vec<String>,
    sample: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    text: String,
    #[serde(default)]
    status: String,
}

#[derive(Debug)]
struct Reason {
    name: String,
    status: Vec<String>,
    stands_for: Option<String>,
    samples: Vec<(String, String)>,
}

/// The mapping, compiled.
#[derive(Debug)]
pub(super) struct Reasons {
    list: Vec<Reason>,
    /// One expression for each of the list.
    texts: RegexSet,
    origin: String,
}

/// Most bytes of a diagnostic that are looked at.
const MAX_TEXT: usize = 2048;

impl Reasons {
    pub(super) fn read(text: &str, origin: &str) -> Result<Self, ParserError> {
        let raw: RawReasons = toml::from_str(text).map_err(|e| ParserError::Toml { file: origin.into(), message: e.to_string() })?;
        let expressions = raw.reason.iter().map(|r| format!("(?:{})", r.text.join("|")));
        let texts = RegexSetBuilder::new(expressions).case_insensitive(true).unicode(false).build().map_err(|e| ParserError::Pattern {
            file: origin.into(),
            pattern: "text".into(),
            message: e.to_string(),
        })?;
        let list = raw.reason.into_iter().map(|r| Reason {
            name: r.name,
            stands_for: r.stands_for.or_else(|| r.status.first().cloned()),
            status: r.status,
            samples: r.sample.into_iter().map(|s| (s.text, s.status)).collect(),
        });
        Ok(Reasons { list: list.collect(), texts, origin: origin.into() })
    }

    /// The reason that the words of a diagnostic speak of, else that of the status, else that of the diagnostic's own status.
    pub(super) fn of(&self, diagnostic: &str, status: &str) -> Option<&str> {
        let own = || enhanced(diagnostic).and_then(|s| self.by_status(s));
        self.by_words(diagnostic).or_else(|| self.by_status(status)).or_else(own)
    }

    fn by_words(&self, text: &str) -> Option<&str> {
        let mut end = text.len().min(MAX_TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let first = self.texts.matches(text.get(..end)?.as_bytes()).iter().next()?;
        self.list.get(first).map(|r| r.name.as_str())
    }

    fn by_status(&self, status: &str) -> Option<&str> {
        let (_, detail) = status.split_once('.')?;
        let has = |r: &&Reason| r.status.iter().any(|s| s == detail || s == status);
        self.list.iter().find(has).map(|r| r.name.as_str())
    }

    /// The status that stands for a reason, with the class of `class` (`4` or `5`).
    pub(super) fn status_of(&self, diagnostic: &str, class: char) -> Option<String> {
        let name = self.by_words(diagnostic)?;
        let status = self.list.iter().find(|r| r.name == name)?.stands_for.as_ref()?;
        Some(if status.matches('.').count() == 2 { status.clone() } else { format!("{class}.{status}") })
    }

    /// Runs the samples; one message a disagreement.
    pub(super) fn check(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for r in &self.list {
            if r.samples.is_empty() {
                wrong.push(format!("{}: reason `{}` has no sample", self.origin, r.name));
            }
            for (text, status) in &r.samples {
                let got = self.of(text, status);
                if got != Some(r.name.as_str()) {
                    wrong.push(format!("{}: reason `{}`: got {got:?}\n    {text}", self.origin, r.name));
                }
            }
        }
        wrong
    }
}
