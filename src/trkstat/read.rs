//! The reader: tolerant and bounded.

use super::{Address, Mta, Part, Recipient, is_status};
use crate::model::event::Action;

/// Most parts of a reply that are read; further ones are left out.
pub const MAX_PARTS: usize = 4_096;
/// Most recipients of all parts that are read; further ones are left out.
pub const MAX_RECIPIENTS: usize = 65_536;
/// Most fields of one group that are kept as extensions.
const MAX_EXTENSIONS: usize = 64;

/// Why a text is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The header has no multipart type with a boundary.
    #[error("not a multipart/related body: {0}")]
    NotMultipart(String),
    /// No part of type message/tracking-status is in it.
    #[error("no message/tracking-status part in the answer")]
    NoPart,
    /// A required field is missing or says nothing.
    #[error("part {part}: {field} is missing or says nothing")]
    Missing {
        /// Which part, from 1.
        part: usize,
        /// The field.
        field: &'static str,
    },
}

/// Reads a reply's MIME body part: CR LF or LF line ends, dot-stuffing already undone.
///
/// # Errors
/// [`ReadError`]. Unknown fields and parts of other types are no error.
pub fn read(text: &[u8]) -> Result<Vec<Part>, ReadError> {
    let text = String::from_utf8_lossy(text);
    let mut lines = text.lines();
    let header = fields_of(&mut lines);
    let kind = get(&header, "content-type").unwrap_or_default();
    if !kind.to_ascii_lowercase().starts_with("multipart/") {
        return Err(ReadError::NotMultipart(kind.chars().take(80).collect()));
    }
    let boundary = parameter(kind, "boundary").filter(|b| !b.is_empty()).ok_or_else(|| ReadError::NotMultipart("no boundary".into()))?;
    let mut parts = Vec::new();
    let mut recipients = 0;
    for body in bodies(lines, &boundary).into_iter().take(MAX_PARTS) {
        let mut lines = body.into_iter();
        let header = fields_of(&mut lines);
        let kind = get(&header, "content-type").unwrap_or_default().to_ascii_lowercase();
        if !kind.starts_with("message/tracking-status") {
            continue;
        }
        let part = part(lines, parts.len() + 1, &mut recipients)?;
        parts.push(part);
    }
    if parts.is_empty() { Err(ReadError::NoPart) } else { Ok(parts) }
}

/// The lines of each part between boundary lines. A last part without closing boundary counts.
fn bodies<'a>(lines: impl Iterator<Item = &'a str>, boundary: &str) -> Vec<Vec<&'a str>> {
    let mut all: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        if let Some(rest) = line.strip_prefix("--").and_then(|l| l.strip_prefix(boundary)) {
            match rest.trim_end() {
                "--" => break,
                "" => {
                    all.push(Vec::new());
                    continue;
                }
                _ => {}
            }
        }
        if let Some(body) = all.last_mut() {
            body.push(line);
        }
    }
    all
}

type Fields = Vec<(String, String)>;

/// The fields up to a blank line, names in lower case, unfolded.
fn fields_of<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Fields {
    let mut fields: Fields = Vec::new();
    for line in lines {
        if line.trim().is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
            continue;
        }
        fields.push(name_and_value(line));
    }
    fields
}

/// `Name: value`. RFC 3887's example 9 forgets a colon: then the first word is the name.
fn name_and_value(line: &str) -> (String, String) {
    let colon = line.find(':').unwrap_or(usize::MAX);
    let space = line.find([' ', '\t']).unwrap_or(usize::MAX);
    let at = if colon <= space || line.get(space..colon).is_some_and(|gap| gap.trim().is_empty()) { colon } else { space };
    let (name, value) = line.split_at_checked(at.min(line.len())).unwrap_or((line, ""));
    (name.trim().to_ascii_lowercase(), value.strip_prefix(':').unwrap_or(value).trim().to_string())
}

fn get<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// A parameter of a Content-Type value, quoted or not.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (found, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').map(|(v, n)| (v.to_string(), n))?,
            None => {
                let end = after.find([';', ' ', '\t']).unwrap_or(after.len());
                (after.get(..end)?.to_string(), after.get(end..)?)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(found);
        }
        rest = next.split_once(';')?.1;
    }
}

/// One part: per-message fields, then groups, each behind a blank line.
fn part<'a>(mut lines: impl Iterator<Item = &'a str>, number: usize, recipients: &mut usize) -> Result<Part, ReadError> {
    let missing = |field| ReadError::Missing { part: number, field };
    let mut lines = std::iter::from_fn(|| lines.next()).peekable();
    while lines.next_if(|l| l.trim().is_empty()).is_some() {}
    let head = fields_of(&mut lines);
    let envelope_id = get(&head, "original-envelope-id").filter(|v| !v.is_empty()).ok_or_else(|| missing("Original-Envelope-Id"))?;
    let reporting_mta = get(&head, "reporting-mta").and_then(mta).ok_or_else(|| missing("Reporting-MTA"))?;
    let arrival_date = get(&head, "arrival-date").and_then(date).ok_or_else(|| missing("Arrival-Date"))?;
    let mut groups = Vec::new();
    while lines.peek().is_some() {
        let group = fields_of(&mut lines);
        if group.is_empty() {
            continue;
        }
        *recipients += 1;
        if *recipients > MAX_RECIPIENTS {
            break;
        }
        groups.push(recipient(&group).map_err(missing)?);
    }
    if groups.is_empty() {
        return Err(missing("Final-Recipient"));
    }
    Ok(Part {
        envelope_id: envelope_id.to_string(),
        reporting_mta,
        arrival_date,
        extensions: others(&head, &["original-envelope-id", "reporting-mta", "arrival-date"]),
        recipients: groups,
    })
}

const OF_RECIPIENT: &[&str] =
    &["original-recipient", "final-recipient", "action", "status", "remote-mta", "last-attempt-date", "will-retry-until"];

fn recipient(group: &Fields) -> Result<Recipient, &'static str> {
    let address = |name| get(group, name).and_then(Address::from_field);
    let (original, last) = (address("original-recipient"), address("final-recipient"));
    // RFC 3464 knows messages without Original-Recipient; one of the two is enough to know who is meant.
    let last = last.or_else(|| original.clone()).ok_or("Final-Recipient")?;
    let action = get(group, "action").and_then(|a| Action::from_name(&without_comment(a).to_ascii_lowercase())).ok_or("Action")?;
    let status = get(group, "status").map(without_comment).filter(|s| is_status(s)).ok_or("Status")?;
    Ok(Recipient {
        original_recipient: original.unwrap_or_else(|| last.clone()),
        final_recipient: last,
        action,
        status: status.to_string(),
        remote_mta: get(group, "remote-mta").and_then(mta),
        last_attempt_date: get(group, "last-attempt-date").and_then(date),
        will_retry_until: get(group, "will-retry-until").and_then(date),
        extensions: others(group, OF_RECIPIENT),
    })
}

/// `4.4.1 (No answer from host)` is 4.4.1.
fn without_comment(text: &str) -> &str {
    text.split('(').next().unwrap_or(text).trim()
}

fn others(fields: &Fields, known: &[&str]) -> Fields {
    fields.iter().filter(|(n, v)| !known.contains(&n.as_str()) && !n.is_empty() && !v.is_empty()).take(MAX_EXTENSIONS).cloned().collect()
}

fn mta(text: &str) -> Option<Mta> {
    let (kind, name) = match text.split_once(';') {
        Some((kind, name)) => (kind.trim().to_ascii_lowercase(), name.trim()),
        None => ("dns".to_string(), text.trim()),
    };
    let name = name.split([' ', '\t', '(']).next().unwrap_or_default();
    (!name.is_empty() && !kind.is_empty()).then(|| Mta { kind, name: name.to_string() })
}

/// RFC 1123's date-time, with any zone; a comment behind it is left out.
fn date(text: &str) -> Option<i64> {
    let text = without_comment(text);
    let spaced = text.split_whitespace().collect::<Vec<_>>().join(" ");
    chrono::DateTime::parse_from_rfc2822(&spaced).or_else(|_| chrono::DateTime::parse_from_rfc3339(text)).ok().map(|t| t.timestamp())
}
