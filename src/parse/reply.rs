//! What a next host's reply says: under which id it took the message. One table for all MTAs, `parsers/replies.toml`.

use super::file::{ParserError, compile};
use regex_automata::Input;
use regex_automata::meta::Regex;
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
    regex: Regex,
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
            let regex = compile(&r.r#match).map_err(bad)?;
            if regex.captures_len() != 2 {
                return Err(bad("needs exactly one group: the id".into()));
            }
            forms.push(Reply {
                literal: memchr::memmem::Finder::new(r.literal.as_bytes()).into_owned(),
                regex,
                samples: r.sample.into_iter().map(|s| (s.text, s.id)).collect(),
                name: r.name,
            });
        }
        Ok(Replies { forms, none: raw.none, origin: origin.into() })
    }

    /// Where in the reply `text` the id is that the next host gave the message.
    pub fn queue_id(&self, text: &[u8]) -> Option<Range<usize>> {
        for form in &self.forms {
            if form.literal.find(text).is_none() {
                continue;
            }
            let mut slots = [None; 4];
            form.regex.search_slots(&Input::new(text), &mut slots);
            if let [_, _, Some(start), Some(end)] = slots {
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
