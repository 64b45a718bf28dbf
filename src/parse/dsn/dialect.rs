//! Dialects: bounces that are text for people, read by one TOML file a mail system (`parsers/dsn/*.toml`).

use super::report::Claim;
use super::status::is_status;
use crate::model::event::Action;
use crate::parse::file::ParserError;
use regex::{Captures, Regex, RegexBuilder};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Most claims of one mail (R6).
pub(super) const MAX_CLAIMS: usize = 5_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDialect {
    name: String,
    description: String,
    checked: String,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    general: bool,
    #[serde(default)]
    detect: RawDetect,
    #[serde(default)]
    ends: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    recipient: Vec<RawRule>,
    #[serde(default)]
    recipient_header: Option<String>,
    #[serde(default)]
    field: Vec<RawField>,
    #[serde(default)]
    when: Vec<RawRule>,
    #[serde(default)]
    correct: Vec<RawCorrect>,
    sample: Vec<RawSample>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDetect {
    #[serde(default)]
    header: BTreeMap<String, String>,
    #[serde(default)]
    text: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    r#match: String,
    #[serde(default)]
    action: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: String,
    r#match: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCorrect {
    action: String,
    #[serde(default)]
    status: Option<String>,
    text: String,
    set_action: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSample {
    mail: String,
    #[serde(default)]
    expect: Vec<BTreeMap<String, String>>,
}

/// A whole mail and what must be read from it: one map a claim; none: it must not be taken for this dialect.
pub(super) type Sample = (String, Vec<BTreeMap<String, String>>);

#[derive(Debug)]
struct Rule {
    regex: Regex,
    action: Option<Action>,
}

#[derive(Debug)]
struct Correct {
    action: Action,
    status: Option<String>,
    text: Regex,
    set: Action,
}

/// One dialect, compiled.
#[derive(Debug)]
pub struct Dialect {
    /// Its name, the `mta` of records read by it.
    pub name: String,
    /// What writes such bounces.
    pub description: String,
    /// `real` or `documentation`.
    pub checked: String,
    /// Page that documents it.
    pub source: Option<String>,
    /// Where the file was.
    pub origin: String,
    pub(super) samples: Vec<Sample>,
    /// Reads any text with a bounce's headers; asked last.
    pub(super) general: bool,
    headers: Vec<(String, Regex)>,
    text: Option<Regex>,
    ends: Option<Regex>,
    action: Action,
    recipients: Vec<Rule>,
    recipient_header: Option<String>,
    fields: Vec<(String, Regex)>,
    when: Vec<Rule>,
    corrections: Vec<Correct>,
}

/// Fields that a rule may read for the whole mail.
const FIELDS: [&str; 7] = ["remote_mta", "remote_ip", "reporting_mta", "queue_id", "message_id", "diagnostic", "status"];

/// What a dialect read.
#[derive(Debug, Default)]
pub(super) struct Understood {
    pub(super) claims: Vec<Claim>,
    pub(super) left_out: u64,
    /// Fields for the whole mail.
    pub(super) fields: BTreeMap<String, String>,
    /// The returned message, as far as the text holds it.
    pub(super) returned: String,
}

impl Dialect {
    /// Reads and compiles one file.
    pub(super) fn read(text: &str, origin: &str) -> Result<Self, ParserError> {
        let raw: RawDialect = toml::from_str(text).map_err(|e| ParserError::Toml { file: origin.into(), message: e.to_string() })?;
        let bad = |pattern: &str, message: String| ParserError::Pattern { file: origin.into(), pattern: pattern.into(), message };
        let compile = |what: &str, expression: &str| {
            RegexBuilder::new(expression).multi_line(true).size_limit(4 << 20).build().map_err(|e| bad(what, e.to_string()))
        };
        let action = |word: &str| Action::from_name(word).ok_or_else(|| bad("action", format!("`{word}` is no action")));
        if raw.checked != "real" && (raw.checked != "documentation" || raw.source.is_none()) {
            return Err(bad("checked", "must be `real`, or `documentation` with a `source`".into()));
        }
        let rules = |what: &str, rules: &[RawRule], need: bool| {
            let one = |r: &RawRule| {
                let regex = compile(what, &r.r#match)?;
                if need && !regex.capture_names().flatten().any(|n| n == "address") {
                    return Err(bad(what, "needs a group `address`".into()));
                }
                Ok(Rule { regex, action: r.action.as_deref().map(action).transpose()? })
            };
            rules.iter().map(one).collect::<Result<Vec<_>, _>>()
        };
        let mut fields = Vec::new();
        for f in &raw.field {
            let regex = compile("field", &f.r#match)?;
            if !FIELDS.contains(&f.name.as_str()) || regex.captures_len() != 2 {
                return Err(bad("field", format!("`{}`: known are {}, with exactly one group", f.name, FIELDS.join(", "))));
            }
            fields.push((f.name.clone(), regex));
        }
        let correct = |c: &RawCorrect| {
            Ok(Correct {
                action: action(&c.action)?,
                status: c.status.clone(),
                text: compile("correct", &c.text)?,
                set: action(&c.set_action)?,
            })
        };
        if raw.detect.text.is_none() && raw.detect.header.is_empty() {
            return Err(bad("detect", "needs a text or a header".into()));
        }
        Ok(Dialect {
            headers: raw.detect.header.iter().map(|(n, e)| Ok((n.clone(), compile(n, e)?))).collect::<Result<_, ParserError>>()?,
            text: raw.detect.text.as_deref().map(|t| compile("text", t)).transpose()?,
            ends: raw.ends.as_deref().map(|t| compile("ends", t)).transpose()?,
            action: raw.action.as_deref().map(action).transpose()?.unwrap_or(Action::Failed),
            recipients: rules("recipient", &raw.recipient, true)?,
            when: rules("when", &raw.when, false)?,
            corrections: raw.correct.iter().map(correct).collect::<Result<_, ParserError>>()?,
            recipient_header: raw.recipient_header,
            samples: raw.sample.into_iter().map(|s| (s.mail, s.expect)).collect(),
            name: raw.name,
            description: raw.description,
            checked: raw.checked,
            source: raw.source,
            origin: origin.into(),
            general: raw.general,
            fields,
        })
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Number of expressions that find recipients.
    pub fn rules(&self) -> usize {
        self.recipients.len() + usize::from(self.recipient_header.is_some())
    }

    /// Whether a mail is of this dialect.
    pub(super) fn is_of(&self, header: &dyn Fn(&str) -> Option<String>, text: &str) -> bool {
        self.text.as_ref().is_none_or(|t| t.is_match(text))
            && self.headers.iter().all(|(name, wanted)| header(name).is_some_and(|v| wanted.is_match(&v)))
    }

    /// Reads a mail of this dialect.
    pub(super) fn understand(&self, header: &dyn Fn(&str) -> Option<String>, text: &str) -> Understood {
        let mut out = Understood::default();
        let (section, returned) = match self.ends.as_ref().and_then(|e| e.find(text)) {
            Some(end) => {
                let behind = text.get(end.end()..).unwrap_or_default();
                (text.get(..end.start()).unwrap_or_default(), behind.split_once('\n').map_or("", |(_, rest)| rest))
            }
            None => (text, ""),
        };
        out.returned = returned.trim_start().to_string();
        for (name, regex) in &self.fields {
            let found = regex.captures(section).and_then(|c| c.get(1)).map(|m| one_line(m.as_str())).filter(|v| !v.is_empty());
            if let (Some(value), false) = (found, out.fields.contains_key(name)) {
                out.fields.insert(name.clone(), value);
            }
        }
        let said = self.headings(section);
        let overall = said.first().map_or(self.action, |(_, a)| *a);
        for rule in &self.recipients {
            for found in rule.regex.captures_iter(section) {
                let at = found.get(0).map_or(0, |m| m.start());
                let above = said.iter().take_while(|(start, _)| *start <= at).last().map_or(overall, |(_, a)| *a);
                let Some(claim) = claim(&found, rule.action.unwrap_or(above), &out.fields) else { continue };
                if out.claims.iter().any(|c| c.final_recipient == claim.final_recipient) {
                    continue;
                }
                if out.claims.len() >= MAX_CLAIMS {
                    out.left_out += 1;
                    continue;
                }
                out.claims.push(claim);
            }
        }
        let listed = self.recipient_header.as_deref().filter(|_| out.claims.is_empty()).and_then(header);
        for name in listed.iter().flat_map(|v| v.split(',')).filter_map(address) {
            let mut claim = Claim::about(name);
            claim.action = overall;
            complete(&mut claim, &out.fields);
            out.claims.push(claim);
        }
        out
    }

    /// Where the words stand that say what became of the recipients below them.
    fn headings(&self, section: &str) -> Vec<(usize, Action)> {
        let mut said = Vec::new();
        for w in &self.when {
            said.extend(w.regex.find_iter(section).take(MAX_CLAIMS).filter_map(|m| Some((m.start(), w.action?))));
        }
        said.sort_by_key(|(at, _)| *at);
        said
    }

    /// What this dialect's own status part says amiss, put right: `action` and `status` as given, and words of the text. Where
    /// these name an address, only the claim about it is meant.
    pub(super) fn correct(&self, claims: &mut [Claim], text: &str) {
        let given: Vec<Action> = claims.iter().map(|c| c.action).collect();
        for c in self.corrections.iter().filter(|c| given.contains(&c.action)) {
            let named: Vec<Option<String>> = c
                .text
                .captures_iter(text)
                .take(MAX_CLAIMS)
                .filter_map(|m| m.name("address").map_or(Some(None), |a| Some(Some(address(a.as_str())?.to_lowercase()))))
                .collect();
            let all = named.contains(&None);
            let named: BTreeSet<String> = named.into_iter().flatten().collect();
            for (claim, given) in claims.iter_mut().zip(&given) {
                let meant = || all || claim.names().any(|n| named.contains(&n.to_lowercase()));
                if *given == c.action && claim.action == c.action && c.status.as_ref().is_none_or(|s| *s == claim.status) && meant() {
                    claim.action = c.set;
                }
            }
        }
    }
}

fn claim(found: &Captures, action: Action, overall: &BTreeMap<String, String>) -> Option<Claim> {
    let group = |name: &str| found.name(name).map(|m| one_line(m.as_str())).filter(|v| !v.is_empty());
    let mut claim = Claim::about(address(&group("address")?)?);
    claim.action = action;
    claim.original_recipient = group("original").and_then(|o| address(&o));
    claim.diagnostic = group("diagnostic");
    claim.status = group("status").filter(|s| is_status(s)).unwrap_or_default();
    claim.remote_mta = group("remote_mta");
    claim.remote_ip = group("remote_ip");
    complete(&mut claim, overall);
    Some(claim)
}

fn complete(claim: &mut Claim, overall: &BTreeMap<String, String>) {
    let get = |name: &str| overall.get(name).cloned();
    claim.remote_mta = claim.remote_mta.take().or_else(|| get("remote_mta"));
    claim.remote_ip = claim.remote_ip.take().or_else(|| get("remote_ip"));
    claim.diagnostic = claim.diagnostic.take().or_else(|| get("diagnostic"));
    if let Some((name, ip)) = claim.diagnostic.as_deref().filter(|_| claim.remote_ip.is_none()).and_then(host_said) {
        claim.remote_mta = claim.remote_mta.take().or(Some(name));
        claim.remote_ip = Some(ip);
    }
    if claim.status.is_empty() {
        claim.status = get("status").filter(|s| is_status(s)).unwrap_or_default();
    }
}

/// Name and address of `host NAME [IP]` or `NAME[IP]`, as Exim and Postfix name whom they spoke to.
fn host_said(text: &str) -> Option<(String, String)> {
    let (before, after) = text.split_once('[')?;
    let ip = after.split_once(']')?.0;
    let name = before.trim_end().rsplit([' ', '(']).next()?;
    let plain = name.contains('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    (plain && ip.parse::<std::net::IpAddr>().is_ok()).then(|| (name.to_string(), ip.to_string()))
}

/// An address as it may stand in a text; `None` for what cannot be one.
pub(super) fn address(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['<', '>', ',', ';', '\'', '"']).trim_end_matches(['.', ':']);
    let text = text.strip_prefix("mailto:").unwrap_or(text);
    let whole = !text.is_empty() && text.len() <= 320 && !text.contains(char::is_whitespace) && !text.contains(char::is_control);
    let plain = !text.contains(['<', '>', '(', ')', ',', ';']);
    (whole && plain).then(|| text.to_string())
}

/// Lines with the blanks around their ends joined by one blank.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
