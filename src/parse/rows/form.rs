//! What a parser file says of tables and JSON: `[csv]`, `[json]` and `[[row]]`. `parsers/README.md` describes them.

use crate::model::event::{Action, Field, Kind};
use crate::parse::file::{RawSample, action_named, compile, expand, field_named};
use regex_automata::meta::Regex;
use serde::Deserialize;
use std::collections::BTreeMap;

/// One or several words.
#[derive(Deserialize, Debug, Clone)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::parse) struct RawCsv {
    #[serde(default)]
    header: String,
    columns: Vec<String>,
    #[serde(default)]
    separator: Option<char>,
    #[serde(default)]
    list: Option<char>,
    time: OneOrMore,
    #[serde(default)]
    comments: Vec<String>,
    #[serde(default)]
    host: Option<OneOrMore>,
    #[serde(default)]
    utc: bool,
    #[serde(default)]
    null_sender: bool,
    #[serde(default)]
    also: BTreeMap<String, String>,
    example: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::parse) struct RawJson {
    members: Vec<String>,
    #[serde(default)]
    root: Option<String>,
    #[serde(default)]
    within: Option<String>,
    #[serde(default)]
    behind: Vec<String>,
    time: Option<OneOrMore>,
    #[serde(default)]
    host: Option<OneOrMore>,
    #[serde(default)]
    utc: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::parse) struct RawRow {
    pub(in crate::parse) name: String,
    event: String,
    #[serde(default)]
    host: Option<OneOrMore>,
    #[serde(default)]
    when: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    unless: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    each: Vec<String>,
    #[serde(default)]
    fields: BTreeMap<String, OneOrMore>,
    #[serde(default)]
    parts: BTreeMap<String, String>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    action: Option<RawAction>,
    #[serde(default)]
    pub(in crate::parse) sample: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAction {
    Always(String),
    Mapped { of: String, map: BTreeMap<String, String> },
}

/// A table with a header line that names its columns.
#[derive(Debug)]
pub struct Csv {
    /// What stands before the names in the header line.
    pub header: String,
    /// Columns that the header line must name, the first of them first.
    pub columns: Vec<String>,
    /// Between cells.
    pub separator: u8,
    /// Between the members of a list in one cell.
    pub list: u8,
    /// Columns of the time; the first that has one counts.
    pub time: Vec<String>,
    /// How lines begin that are neither header nor row.
    pub comments: Vec<String>,
    /// Columns of the host; the first that has one counts.
    pub host: Vec<String>,
    /// Times without a zone are UTC, not the host's.
    pub utc: bool,
    /// An empty sender is the null sender, not an unknown one.
    pub null_sender: bool,
    /// Names that columns have in another form of the table, whose header line has nothing before them, and the names meant.
    pub also: BTreeMap<String, String>,
    /// A header line, for the samples.
    pub example: String,
}

/// JSON objects, one a line or in syslog messages.
#[derive(Debug)]
pub struct Json {
    /// Members that the object must have.
    pub members: Vec<String>,
    /// Member that is the object, where another is wrapped around it; all other names are below it.
    pub root: Option<String>,
    /// Member that holds the object as text, where another is wrapped around it.
    pub within: Option<String>,
    /// What stands between a text and the object behind it; the text is the member `@text`.
    pub behind: Vec<String>,
    /// Members of the time; the first that has one counts.
    pub time: Vec<String>,
    /// Members of the host; the first that has one counts.
    pub host: Vec<String>,
    /// Times without a zone are UTC, not the host's.
    pub utc: bool,
}

/// A word that a value is held against. Case does not count.
#[derive(Debug)]
pub enum Word {
    /// Equal to this.
    Is(String),
    /// Begins with this (`HA*`).
    Begins(String),
    /// Ends with this (`*: delivered`).
    Ends(String),
    /// There, and not empty (`*`).
    Some,
    /// Not there, or empty.
    None,
}

/// What lines of one sort say.
#[derive(Debug)]
pub struct Row {
    /// Its name within the file.
    pub name: String,
    /// The event it makes; `None` for lines that are known to tell nothing.
    pub kind: Option<Kind>,
    /// Where the host is named, if not where the file's other rows name it.
    pub host: Vec<String>,
    /// Each of these must hold.
    pub when: Vec<(String, Vec<Word>)>,
    /// None of these may hold.
    pub unless: Vec<(String, Vec<Word>)>,
    /// Lists: one event for each member of the first; further ones go beside it where they are as long.
    pub each: Vec<String>,
    /// Where fields come from; of several places the first that has a value.
    pub fields: Vec<(Field, Vec<String>)>,
    /// Fields that are parts of a value.
    pub parts: Vec<(String, Regex, Vec<Option<Field>>)>,
    /// Fields with fixed values.
    pub set: Vec<(Field, Vec<u8>)>,
    /// How the action is found.
    pub action: RowAction,
}

/// How a row finds the action.
#[derive(Debug)]
pub enum RowAction {
    /// It says nothing about the outcome.
    None,
    /// Always the same.
    Always(Action),
    /// By a value; a word that is not there makes the line unparsed.
    Mapped(String, Vec<(Word, Action)>),
}

fn byte(c: Option<char>, default: u8) -> Result<u8, String> {
    match c {
        None => Ok(default),
        Some(c) => u8::try_from(c).ok().filter(u8::is_ascii).ok_or_else(|| format!("`{c}` is no ASCII character")),
    }
}

impl Csv {
    pub(in crate::parse) fn new(raw: RawCsv) -> Result<Self, String> {
        if raw.columns.len() < 2 {
            return Err("`columns` needs two or more names that tell this table from others".into());
        }
        Ok(Csv {
            header: raw.header,
            columns: raw.columns,
            separator: byte(raw.separator, b',')?,
            list: byte(raw.list, b';')?,
            time: raw.time.list(),
            comments: raw.comments,
            host: raw.host.map(OneOrMore::list).unwrap_or_default(),
            utc: raw.utc,
            null_sender: raw.null_sender,
            also: raw.also,
            example: raw.example,
        })
    }
}

impl Json {
    pub(in crate::parse) fn new(raw: RawJson) -> Result<Self, String> {
        if raw.members.is_empty() {
            return Err("`members` needs the members that tell these objects from others".into());
        }
        Ok(Json {
            members: raw.members,
            root: raw.root,
            within: raw.within,
            behind: raw.behind,
            time: raw.time.map(OneOrMore::list).unwrap_or_default(),
            host: raw.host.map(OneOrMore::list).unwrap_or_default(),
            utc: raw.utc,
        })
    }
}

fn word(text: &str) -> Word {
    match (text, text.strip_suffix('*'), text.strip_prefix('*')) {
        ("*", _, _) => Word::Some,
        ("", _, _) => Word::None,
        (_, Some(start), _) => Word::Begins(start.to_string()),
        (_, _, Some(end)) => Word::Ends(end.to_string()),
        _ => Word::Is(text.to_string()),
    }
}

impl Word {
    /// Whether a value is the word.
    pub fn fits(&self, value: Option<&[u8]>) -> bool {
        let value = value.filter(|v| !v.is_empty());
        match (self, value) {
            (Word::None, v) => v.is_none(),
            (Word::Some, v) => v.is_some(),
            (Word::Is(w), Some(v)) => v.eq_ignore_ascii_case(w.as_bytes()),
            (Word::Ends(w), Some(v)) => {
                v.len().checked_sub(w.len()).and_then(|at| v.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(w.as_bytes()))
            }
            (Word::Begins(w), Some(v)) => v.get(..w.len()).is_some_and(|start| start.eq_ignore_ascii_case(w.as_bytes())),
            _ => false,
        }
    }
}

fn conditions(raw: BTreeMap<String, OneOrMore>) -> Vec<(String, Vec<Word>)> {
    raw.into_iter().map(|(place, words)| (place, words.list().iter().map(|w| word(w)).collect())).collect()
}

impl Row {
    pub(in crate::parse) fn new(raw: RawRow, define: &BTreeMap<String, String>) -> Result<Self, String> {
        let kind = match raw.event.as_str() {
            "ignore" => None,
            word => Some(Kind::from_name(word).ok_or_else(|| format!("unknown event `{word}`"))?),
        };
        let fields = raw.fields.into_iter().map(|(f, places)| Ok((field_named(&f)?, places.list())));
        let mut fields = fields.collect::<Result<Vec<_>, String>>()?;
        // In the order of their numbers, as an event's identity counts on.
        fields.sort_by_key(|(f, _)| *f);
        let mut parts = Vec::new();
        for (place, pattern) in raw.parts {
            if !pattern.starts_with('^') {
                return Err(format!("parts `{place}`: must begin with ^ (log text is written by strangers)"));
            }
            let regex = compile(&expand(&pattern, define, 0)?)?;
            let names = regex.group_info().pattern_names(regex_automata::PatternID::ZERO);
            let groups = names.map(|n| n.map(|n| field_named(n.trim_end_matches("_2"))).transpose()).collect::<Result<Vec<_>, _>>()?;
            parts.push((place, regex, groups));
        }
        let named = |f: Field| fields.iter().any(|(g, _)| *g == f) || parts.iter().any(|(_, _, g)| g.contains(&Some(f)));
        if kind.is_some_and(|k| !matches!(k, Kind::Reject | Kind::Witness)) && !named(Field::QueueId) {
            return Err(format!("an event `{}` needs the field `queue_id`", raw.event));
        }
        let action = match raw.action {
            None => RowAction::None,
            Some(RawAction::Always(a)) => RowAction::Always(action_named(&a)?),
            Some(RawAction::Mapped { of, map }) => {
                let map = map.iter().map(|(w, a)| Ok((word(w), action_named(a)?)));
                let mut map = map.collect::<Result<Vec<_>, String>>()?;
                // What is said of one word counts more than what is said of many.
                map.sort_by_key(|(w, _)| match w {
                    Word::Is(_) => 0,
                    Word::Begins(_) | Word::Ends(_) => 1,
                    Word::Some | Word::None => 2,
                });
                RowAction::Mapped(of, map)
            }
        };
        let set = raw.set.into_iter().map(|(f, v)| Ok((field_named(&f)?, v.into_bytes())));
        Ok(Row {
            name: raw.name,
            kind,
            host: raw.host.map(OneOrMore::list).unwrap_or_default(),
            when: conditions(raw.when),
            unless: conditions(raw.unless),
            each: raw.each,
            fields,
            parts,
            set: set.collect::<Result<_, String>>()?,
            action,
        })
    }
}
