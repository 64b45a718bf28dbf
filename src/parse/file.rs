//! Parser files: one TOML file a mail system, with its patterns and their samples. `parsers/README.md` describes them.

pub(in crate::parse) use super::expression::expand;
pub use super::expression::{Expression, compile};
use super::rows::form::{Csv, Json, RawCsv, RawJson, RawRow, Row};
use crate::model::event::{Action, Field, Kind};
use crate::model::record::Role;
use regex_automata::meta::Regex;
use regex_automata::util::captures::GroupInfo;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What is wrong with a parser file, and where.
#[derive(Debug, thiserror::Error)]
pub enum ParserError {
    /// The file or folder cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// File or folder.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Not the TOML that `parsers/README.md` describes.
    #[error("{file}: {message}")]
    Toml {
        /// File.
        file: String,
        /// What and where, as the TOML reader says it.
        message: String,
    },
    /// A pattern that cannot be used.
    #[error("{file}: pattern `{pattern}`: {message}")]
    Pattern {
        /// File.
        file: String,
        /// Name of the pattern.
        pattern: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    name: String,
    description: String,
    versions: String,
    checked: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default = "mta")]
    role: String,
    programs: Vec<String>,
    #[serde(default)]
    instances: bool,
    #[serde(default)]
    inner_stamp: bool,
    #[serde(default)]
    bare: bool,
    #[serde(default)]
    reused_ids: Option<String>,
    #[serde(default)]
    underscores: bool,
    #[serde(default)]
    session: BTreeMap<String, RawSession>,
    host: Option<String>,
    #[serde(default)]
    csv: Option<RawCsv>,
    #[serde(default)]
    json: Option<RawJson>,
    #[serde(default)]
    define: BTreeMap<String, String>,
    #[serde(default)]
    pattern: Vec<RawPattern>,
    #[serde(default)]
    row: Vec<RawRow>,
    #[serde(default)]
    sample: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSession {
    #[serde(default = "session")]
    key: Vec<String>,
    keep: Vec<String>,
}

fn session() -> Vec<String> {
    vec!["session".into()]
}

fn mta() -> String {
    "mta".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPattern {
    name: String,
    #[serde(default)]
    program: Vec<String>,
    event: String,
    #[serde(default)]
    literal: Option<String>,
    #[serde(default)]
    unless: Option<String>,
    r#match: String,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    action: Option<RawAction>,
    #[serde(default)]
    opens: Option<String>,
    #[serde(default)]
    adds: Option<String>,
    #[serde(default)]
    uses: Option<String>,
    #[serde(default)]
    closes: Option<String>,
    #[serde(default)]
    sample: Vec<RawSample>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawAction {
    Always(String),
    Mapped { field: String, map: BTreeMap<String, String> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::parse) struct RawSample {
    line: String,
    expect: Expect,
    #[serde(default)]
    hostile: bool,
}

impl RawSample {
    fn of(self, pattern: Option<usize>) -> Sample {
        Sample { line: self.line, expect: self.expect, pattern, hostile: self.hostile }
    }
}

/// What a sample line must give.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Expect {
    /// `"none"`: no pattern may match; `"ignored"`: the pattern is one of `event = "ignore"`.
    Word(String),
    /// Fields (and `action`) that the event must have.
    Fields(BTreeMap<String, String>),
    /// Those of each event of a line that has several.
    Several(Vec<BTreeMap<String, String>>),
}

/// A line with what it must give.
#[derive(Debug, Clone)]
pub struct Sample {
    /// A whole line.
    pub line: String,
    /// What it must give.
    pub expect: Expect,
    /// The pattern (behind them: the row) it stands under; `None` for a file's own samples.
    pub pattern: Option<usize>,
    /// A stranger's text in it looks like the program's own words.
    pub hostile: bool,
}

/// How a pattern finds the action.
#[derive(Debug)]
pub enum ActionRule {
    /// It says nothing about the outcome.
    None,
    /// Always the same.
    Always(Action),
    /// By the word in the capture group of this number.
    Mapped(usize, Vec<(Vec<u8>, Action)>),
}

/// A sort of session: lines that go on where an earlier line of the same host and program began.
#[derive(Debug)]
pub struct SessionKind {
    /// Its name within the file.
    pub name: String,
    /// Fields that tell one session from another.
    pub key: Vec<Field>,
    /// Fields that later lines get from earlier ones.
    pub keep: Vec<Field>,
}

/// What a line does with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Begins it; what was known under that key is forgotten.
    Opens,
    /// Tells more of it.
    Adds,
    /// Gets what is known of it.
    Uses,
    /// Gets what is known of it, and ends it.
    Closes,
}

/// One compiled pattern.
#[derive(Debug)]
pub struct Pattern {
    /// Its name within the file.
    pub name: String,
    /// Tags or daemons it is for; empty for all of the file's.
    pub programs: Vec<String>,
    /// The event it makes; `None` for lines that are known to tell nothing.
    pub kind: Option<Kind>,
    /// Bytes that a matching line must hold.
    pub literal: Option<memchr::memmem::Finder<'static>>,
    /// A line that matches this, too, is not this pattern's: two readings of it would be possible.
    pub unless: Option<Expression>,
    /// The expression.
    pub expression: Expression,
    /// Field of each capture group.
    pub groups: Vec<Option<Field>>,
    /// Fields with fixed values.
    pub set: Vec<(Field, Vec<u8>)>,
    /// How the action is found.
    pub action: ActionRule,
    /// What its lines do with which of the file's sessions: first what they get, then what they tell.
    pub sessions: Vec<(Does, u16)>,
    /// Its lines only tell of a session; they are no event.
    pub session_only: bool,
    /// In its fields `_` stands for a space and `/` for a newline, as qmail writes replies.
    pub underscores: bool,
}

/// One parser file, compiled.
#[derive(Debug)]
pub struct ParserFile {
    /// `mta` of the records.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Versions read.
    pub versions: String,
    /// `real` or `documentation`.
    pub checked: String,
    /// The page, where `checked` is `documentation`.
    pub source: Option<String>,
    /// Hop or witness.
    pub role: Role,
    /// Tags.
    pub programs: Vec<String>,
    /// Tags are `INSTANCE/[SERVICE/]DAEMON`.
    pub instances: bool,
    /// Messages may begin with the program's own stamp.
    pub inner_stamp: bool,
    /// Also reads files without host and tag.
    pub bare: bool,
    /// Queue ids that return.
    pub reused_ids: Option<Regex>,
    /// Sessions that lines go on by.
    pub sessions: Vec<SessionKind>,
    /// Host of lines that name none, where it is always the same (a service).
    pub host: Option<String>,
    /// The table it reads.
    pub csv: Option<Csv>,
    /// The JSON objects it reads.
    pub json: Option<Json>,
    /// Patterns in order.
    pub patterns: Vec<Pattern>,
    /// What rows of the table and objects say, in order.
    pub rows: Vec<Row>,
    /// All samples.
    pub samples: Vec<Sample>,
    /// Where it was read from (`built in` or a path).
    pub origin: String,
}

/// The field of a name.
pub(in crate::parse) fn field_named(name: &str) -> Result<Field, String> {
    Field::from_name(name).ok_or_else(|| format!("unknown field `{name}`"))
}

pub(in crate::parse) fn action_named(word: &str) -> Result<Action, String> {
    match Action::from_name(word) {
        Some(Action::Transferred) => Err("`transferred` is derived by the journey, never read from a line".into()),
        Some(a) => Ok(a),
        None => Err(format!("unknown action `{word}`")),
    }
}

fn fields_named(names: &[String]) -> Result<Vec<Field>, String> {
    names.iter().map(|n| Field::from_name(n).ok_or_else(|| format!("unknown field `{n}`"))).collect()
}

/// The field of each capture group.
fn groups_of(groups: &GroupInfo) -> Result<Vec<Option<Field>>, String> {
    let names = groups.pattern_names(regex_automata::PatternID::ZERO);
    // A field that stands in two places of a pattern is `name` in one and `name_2` in the other.
    let field = |n: &str| Field::from_name(n.trim_end_matches("_2")).ok_or_else(|| format!("unknown field `{n}`"));
    names.map(|name| name.map(field).transpose()).collect()
}

/// What a pattern does with which session.
fn joins(raw: &RawPattern, known: &[SessionKind]) -> Result<Vec<(Does, u16)>, String> {
    let named = [(Does::Uses, &raw.uses), (Does::Closes, &raw.closes), (Does::Opens, &raw.opens), (Does::Adds, &raw.adds)];
    let mut out = Vec::new();
    for (does, name) in named {
        let Some(name) = name else { continue };
        let at = known.iter().position(|s| s.name == *name).ok_or_else(|| format!("no `[session.{name}]` in the file"))?;
        out.push((does, at as u16));
    }
    Ok(out)
}

impl Pattern {
    fn new(raw: RawPattern, file: &RawFile, known: &[SessionKind]) -> Result<(Self, Vec<RawSample>), String> {
        let kind = match raw.event.as_str() {
            "ignore" => None,
            "session" => Some(Kind::Queued),
            word => Some(Kind::from_name(word).ok_or_else(|| format!("unknown event `{word}`"))?),
        };
        if !raw.r#match.starts_with('^') {
            return Err("`match` must begin with ^ (log text is written by strangers)".into());
        }
        let expression = Expression::new(&expand(&raw.r#match, &file.define, 0)?)?;
        let groups = groups_of(expression.group_info())?;
        let session_only = raw.event == "session";
        let sessions = joins(&raw, known)?;
        if session_only && sessions.is_empty() {
            return Err("an event `session` needs `opens`, `adds` or `closes`".into());
        }
        let gets = |(does, n): &(Does, u16)| {
            matches!(does, Does::Uses | Does::Closes) && known.get(usize::from(*n)).is_some_and(|s| s.keep.contains(&Field::QueueId))
        };
        let needs_id = kind.is_some_and(|k| !matches!(k, Kind::Reject | Kind::Witness)) && !session_only && !sessions.iter().any(gets);
        if needs_id && !groups.contains(&Some(Field::QueueId)) {
            return Err(format!("an event `{}` needs the field `queue_id`", raw.event));
        }
        let action = match raw.action {
            None => ActionRule::None,
            Some(RawAction::Always(word)) => ActionRule::Always(action_named(&word)?),
            Some(RawAction::Mapped { field, map }) => {
                let wanted = Field::from_name(&field).ok_or_else(|| format!("unknown field `{field}`"))?;
                let group = groups.iter().position(|g| *g == Some(wanted)).ok_or_else(|| format!("no group `{field}`"))?;
                let map = map.into_iter().map(|(w, a)| Ok((w.into_bytes(), action_named(&a)?)));
                ActionRule::Mapped(group, map.collect::<Result<_, String>>()?)
            }
        };
        let set = raw.set.into_iter().map(|(f, v)| match Field::from_name(&f) {
            Some(field) => Ok((field, v.into_bytes())),
            None => Err(format!("unknown field `{f}`")),
        });
        let unless =
            raw.unless.as_deref().map(|u| Expression::new(&expand(u, &file.define, 0)?)).transpose().map_err(|e| format!("unless: {e}"))?;
        let pattern = Pattern {
            name: raw.name,
            unless,
            programs: raw.program,
            kind,
            literal: raw.literal.map(|l| memchr::memmem::Finder::new(l.as_bytes()).into_owned()),
            expression,
            groups,
            set: set.collect::<Result<_, String>>()?,
            action,
            sessions,
            session_only,
            underscores: file.underscores,
        };
        Ok((pattern, raw.sample))
    }
}

/// The rows of a file; their samples, numbered behind those of its patterns, go to the others.
fn rows(raw: &mut RawFile, origin: &str, patterns: usize, samples: &mut Vec<Sample>) -> Result<Vec<Row>, ParserError> {
    let mut rows = Vec::new();
    for mut row in std::mem::take(&mut raw.row) {
        let name = row.name.clone();
        let bad = |message: String| ParserError::Pattern { file: origin.into(), pattern: name.clone(), message };
        if row.sample.is_empty() {
            return Err(bad("has no sample".into()));
        }
        let pattern = Some(patterns + rows.len());
        let own = std::mem::take(&mut row.sample);
        samples.extend(own.into_iter().map(|s| s.of(pattern)));
        rows.push(Row::new(row, &raw.define).map_err(bad)?);
    }
    Ok(rows)
}

impl ParserFile {
    /// Reads and compiles the text of a parser file. `origin` is named in errors.
    pub fn read(text: &str, origin: &str) -> Result<Self, ParserError> {
        let toml = |message: String| ParserError::Toml { file: origin.into(), message };
        let mut raw: RawFile = toml::from_str(text).map_err(|e| toml(e.to_string().trim_end().to_string()))?;
        let role = match raw.role.as_str() {
            "mta" => Role::Hop,
            "witness" => Role::Witness,
            other => return Err(toml(format!("role `{other}` is neither `mta` nor `witness`"))),
        };
        if !matches!(raw.checked.as_str(), "real" | "documentation") {
            return Err(toml(format!("checked = `{}` is neither `real` nor `documentation`", raw.checked)));
        }
        if raw.checked == "documentation" && raw.source.is_none() {
            return Err(toml("checked = \"documentation\" needs `source`: which page".into()));
        }
        let mut samples: Vec<Sample> = std::mem::take(&mut raw.sample).into_iter().map(|s| s.of(None)).collect();
        let mut sessions = Vec::new();
        for (name, s) in &raw.session {
            let bad = |message| toml(format!("[session.{name}]: {message}"));
            sessions.push(SessionKind {
                name: name.clone(),
                key: fields_named(&s.key).map_err(bad)?,
                keep: fields_named(&s.keep).map_err(bad)?,
            });
        }
        let mut patterns: Vec<Pattern> = Vec::new();
        for p in std::mem::take(&mut raw.pattern) {
            let name = p.name.clone();
            let bad = |message: String| ParserError::Pattern { file: origin.into(), pattern: name.clone(), message };
            if patterns.iter().any(|q| q.name == p.name) {
                return Err(bad("the name is used twice".into()));
            }
            let (pattern, own) = Pattern::new(p, &raw, &sessions).map_err(bad)?;
            if own.is_empty() {
                return Err(bad("has no sample".into()));
            }
            samples.extend(own.into_iter().map(|s| s.of(Some(patterns.len()))));
            patterns.push(pattern);
        }
        let rows = rows(&mut raw, origin, patterns.len(), &mut samples)?;
        let csv = raw.csv.take().map(Csv::new).transpose().map_err(|e| toml(format!("[csv]: {e}")))?;
        let json = raw.json.take().map(Json::new).transpose().map_err(|e| toml(format!("[json]: {e}")))?;
        if rows.is_empty() != (csv.is_none() && json.is_none()) {
            return Err(toml("[[row]] and one of [csv] and [json] go together".into()));
        }
        let reused_ids = raw.reused_ids.as_deref().map(compile).transpose().map_err(|e| toml(format!("reused_ids: {e}")))?;
        Ok(ParserFile {
            name: raw.name,
            description: raw.description,
            versions: raw.versions,
            checked: raw.checked,
            source: raw.source,
            role,
            programs: raw.programs,
            instances: raw.instances,
            inner_stamp: raw.inner_stamp,
            bare: raw.bare,
            reused_ids,
            sessions,
            host: raw.host,
            csv,
            json,
            patterns,
            rows,
            samples,
            origin: origin.into(),
        })
    }

    /// Name of a pattern, or of the row of that number behind them.
    pub fn name_of(&self, pattern: u16) -> &str {
        let row = || Some(self.rows.get(usize::from(pattern).checked_sub(self.patterns.len())?)?.name.as_str());
        self.patterns.get(usize::from(pattern)).map(|p| p.name.as_str()).or_else(row).unwrap_or("?")
    }

    /// Reads all `*.toml` files of a folder, in the order of their names.
    pub fn read_folder(dir: &Path) -> Result<Vec<Self>, ParserError> {
        let io = |error| ParserError::Io { path: dir.display().to_string(), error };
        let mut paths: Vec<_> = std::fs::read_dir(dir).map_err(io)?.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "toml") && p.file_name().is_some_and(|n| n != "replies.toml"));
        paths.sort();
        let mut files = Vec::new();
        for path in paths {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(&path).map_err(|error| ParserError::Io { path: name.clone(), error })?;
            files.push(Self::read(&text, &name)?);
        }
        Ok(files)
    }
}
