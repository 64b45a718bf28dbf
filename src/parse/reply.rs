//! What a next host's reply says: under which id it took the message. One table for all MTAs, `parsers/replies.toml`.

use super::file::{Expression, ParserError};
use regex_automata::meta::Cache;
use serde::Deserialize;
use std::ops::Range;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReplies {
    reply: Vec<RawReply>,
    #[serde(default)]
    none: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReply {
    name: String,
    literal: String,
    r#match: String,
    sample: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    text: String,
    id: String,
}

#[derive(Debug)]
struct Reply {
    name: String,
    literal: memchr::memmem::Finder<'static>,
    expression: Expression,
    samples: Vec<(String, String)>,
}

/// The table of reply forms.
#[derive(Debug)]
pub struct Replies {
    forms: Vec<Reply>,
    none: Vec<String>,
    origin: String,
}

impl Replies {
    /// Reads and compiles the table.
    pub fn read(text: &str, origin: &str) -> Result<Self, ParserError> {
        let raw: RawReplies = toml::from_str(text).map_err(|e| ParserError::Toml { file: origin.into(), message: e.to_string() })?;
        let mut forms = Vec::new();
        for r in raw.reply {
            let bad = |message: String| ParserError::Pattern { file: origin.into(), pattern: r.name.clone(), message };
            if !r.r#match.starts_with('^') {
                return Err(bad("`match` must begin with ^".into()));
            }
            let expression = Expression::new(&r.r#match).map_err(bad)?;
            if expression.group_info().all_group_len() != 2 {
                return Err(bad("needs exactly one group: the id".into()));
            }
            forms.push(Reply {
                literal: memchr::memmem::Finder::new(r.literal.as_bytes()).into_owned(),
                expression,
                samples: r.sample.into_iter().map(|s| (s.text, s.id)).collect(),
                name: r.name,
            });
        }
        Ok(Replies { forms, none: raw.none, origin: origin.into() })
    }

    /// Where in the reply `text` the id is that the next host gave the message.
    pub fn queue_id(&self, text: &[u8]) -> Option<Range<usize>> {
        self.queue_id_with(&mut Vec::new(), text)
    }

    /// As [`Replies::queue_id`], with the engines' scratch space of the calls before, which is empty at first.
    pub(super) fn queue_id_with(&self, caches: &mut Vec<Option<Cache>>, text: &[u8]) -> Option<Range<usize>> {
        caches.resize_with(self.forms.len(), || None);
        let mut slots = Vec::with_capacity(4);
        for (form, cache) in self.forms.iter().zip(caches) {
            if form.literal.find(text).is_some()
                && form.expression.groups(cache, text, &mut slots)
                && let [_, _, Some(start), Some(end)] = slots.as_slice()
            {
                return Some(start.get()..end.get());
            }
        }
        None
    }

    /// Runs the samples; one message a disagreement.
    pub fn check(&self) -> Vec<String> {
        let id = |text: &str| self.queue_id(text.as_bytes()).and_then(|r| text.get(r).map(str::to_string));
        let mut wrong = Vec::new();
        for form in &self.forms {
            for (text, want) in &form.samples {
                if id(text).as_deref() != Some(want) {
                    wrong.push(format!("{}: reply `{}`: expected `{want}`, got {:?}\n    {text}", self.origin, form.name, id(text)));
                }
            }
        }
        for text in &self.none {
            if let Some(got) = id(text) {
                wrong.push(format!("{}: found `{got}` where there is no id\n    {text}", self.origin));
            }
        }
        wrong
    }
}
