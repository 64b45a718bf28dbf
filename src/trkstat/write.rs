//! The writer: strict.

use super::{MAX_LINE, Mta, Part, Recipient, is_status};
use crate::model::event::Action;
use crate::trkstat::address::is_atom;

/// Which rule a part would break.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A value that the field's grammar does not allow, or that is too long for a line.
    #[error("{field}: not a value RFC 3886 allows, or longer than a line may be: {value:?}")]
    Value {
        /// Field name.
        field: &'static str,
        /// The value, cut.
        value: String,
    },
    /// A field that must not stand here (3886, 3.3.5 to 3.3.7).
    #[error("{field} must not stand beside action {action}")]
    Misplaced {
        /// Field name.
        field: &'static str,
        /// Action.
        action: &'static str,
    },
    /// The status does not say what the action says (3886, 3.3.4).
    #[error("status {status} does not go with action {action}")]
    Status {
        /// Status.
        status: String,
        /// Action.
        action: &'static str,
    },
    /// A part without recipients, or a reply without parts.
    #[error("nothing to say: {0}")]
    Empty(&'static str),
}

/// Writes a reply's MIME body part: lines without CR LF, none longer than 998 characters, all of them ASCII.
///
/// # Errors
/// [`WriteError`] when a part breaks a rule; nothing is written then.
pub fn write(parts: &[Part]) -> Result<Vec<String>, WriteError> {
    if parts.is_empty() {
        return Err(WriteError::Empty("no part"));
    }
    let mut body = Vec::new();
    let mut all = Vec::new();
    for part in parts {
        let mut lines = Vec::new();
        write_part(part, &mut lines)?;
        body.push(lines);
    }
    let boundary = boundary(&body);
    all.push(format!("Content-Type: multipart/related; boundary=\"{boundary}\"; type=\"message/tracking-status\""));
    all.push(String::new());
    for lines in body {
        all.push(format!("--{boundary}"));
        all.push("Content-Type: message/tracking-status".into());
        all.push(String::new());
        all.extend(lines);
    }
    all.push(format!("--{boundary}--"));
    Ok(all)
}

/// A boundary that no line begins with. Lines begin with a field's name or white space, so the first one always does.
fn boundary(parts: &[Vec<String>]) -> String {
    let mut n = 0u32;
    loop {
        let name = if n == 0 { "=_tracking".to_string() } else { format!("=_tracking_{n}") };
        if !parts.iter().flatten().any(|l| l.strip_prefix("--").is_some_and(|l| l.starts_with(&name))) {
            return name;
        }
        n += 1;
    }
}

/// Per-message fields, then a group a recipient, each followed by a blank line (3886, 3.1).
fn write_part(p: &Part, out: &mut Vec<String>) -> Result<(), WriteError> {
    if p.recipients.is_empty() {
        return Err(WriteError::Empty("no recipient"));
    }
    field(out, "Original-Envelope-Id", &p.envelope_id)?;
    field(out, "Reporting-MTA", &mta("Reporting-MTA", &p.reporting_mta)?)?;
    field(out, "Arrival-Date", &date("Arrival-Date", p.arrival_date)?)?;
    extensions(out, &p.extensions)?;
    out.push(String::new());
    for r in &p.recipients {
        recipient(r, out)?;
        out.push(String::new());
    }
    Ok(())
}

fn recipient(r: &Recipient, out: &mut Vec<String>) -> Result<(), WriteError> {
    check(r)?;
    field(out, "Original-Recipient", &typed("Original-Recipient", &r.original_recipient)?)?;
    field(out, "Final-Recipient", &typed("Final-Recipient", &r.final_recipient)?)?;
    field(out, "Action", r.action.as_str())?;
    field(out, "Status", &r.status)?;
    if let Some(m) = &r.remote_mta {
        field(out, "Remote-MTA", &mta("Remote-MTA", m)?)?;
    }
    if let Some(t) = r.last_attempt_date {
        field(out, "Last-Attempt-Date", &date("Last-Attempt-Date", t)?)?;
    }
    if let Some(t) = r.will_retry_until {
        field(out, "Will-Retry-Until", &date("Will-Retry-Until", t)?)?;
    }
    extensions(out, &r.extensions)
}

/// The rules of presence and agreement of 3886, 3.3.4 to 3.3.7.
fn check(r: &Recipient) -> Result<(), WriteError> {
    let action = r.action.as_str();
    let misplaced = |field| Err(WriteError::Misplaced { field, action });
    let opaque = r.action == Action::Opaque;
    if r.remote_mta.is_some() && (opaque || r.last_attempt_date.is_none()) {
        return misplaced("Remote-MTA");
    }
    if opaque && r.last_attempt_date.is_some() {
        return misplaced("Last-Attempt-Date");
    }
    if r.will_retry_until.is_some() && r.action != Action::Delayed {
        return misplaced("Will-Retry-Until");
    }
    let class = match r.action {
        Action::Failed => '5',
        Action::Delayed => '4',
        _ => '2',
    };
    let not_tracked = r.status == "2.1.9";
    if !is_status(&r.status) || !r.status.starts_with(class) || (not_tracked && r.action != Action::Relayed) {
        return Err(WriteError::Status { status: r.status.clone(), action });
    }
    Ok(())
}

fn bad(field: &'static str, value: &str) -> WriteError {
    WriteError::Value { field, value: value.chars().take(80).collect() }
}

/// One field on one line; folded at spaces where it is longer than 76 characters.
fn field(out: &mut Vec<String>, name: &'static str, value: &str) -> Result<(), WriteError> {
    let spaced = value.starts_with(' ') || value.ends_with(' ') || value.contains("  ");
    if value.is_empty() || spaced || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
        return Err(bad(name, value));
    }
    put_folded(out, name, value).ok_or_else(|| bad(name, value))
}

fn put_folded(out: &mut Vec<String>, name: &str, value: &str) -> Option<()> {
    const WISHED: usize = 76;
    let mut lines = Vec::new();
    let mut line = format!("{name}:");
    let mut words = 0;
    for word in value.split(' ') {
        // The first word stays with the name: a line of nothing but white space would be lost on the way.
        if words > 0 && line.len() + 1 + word.len() > WISHED {
            lines.push(std::mem::take(&mut line));
        }
        line.push(' ');
        line.push_str(word);
        words += 1;
        if line.len() > MAX_LINE {
            return None;
        }
    }
    lines.push(line);
    out.append(&mut lines);
    Some(())
}

fn typed(field: &'static str, a: &super::Address) -> Result<String, WriteError> {
    let text = a.to_field();
    match !a.kind.is_empty() && a.kind.bytes().all(is_atom) {
        true => Ok(text),
        false => Err(bad(field, &text)),
    }
}

fn mta(field: &'static str, m: &Mta) -> Result<String, WriteError> {
    let text = format!("{}; {}", m.kind, m.name);
    let plain = !m.name.is_empty() && m.name.bytes().all(|b| b.is_ascii_graphic());
    match plain && !m.kind.is_empty() && m.kind.bytes().all(is_atom) {
        true => Ok(text),
        false => Err(bad(field, &text)),
    }
}

/// RFC 1123's date-time, always in UTC.
fn date(field: &'static str, seconds: i64) -> Result<String, WriteError> {
    use chrono::Datelike;
    let t = chrono::DateTime::<chrono::Utc>::from_timestamp(seconds, 0).filter(|t| (1900..=9999).contains(&t.year()));
    t.map(|t| t.format("%a, %-d %b %Y %H:%M:%S +0000").to_string()).ok_or_else(|| bad(field, &seconds.to_string()))
}

fn extensions(out: &mut Vec<String>, all: &[(String, String)]) -> Result<(), WriteError> {
    for (name, value) in all {
        let named = !name.is_empty() && name.len() < 200 && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        let spaced = value.starts_with(' ') || value.ends_with(' ') || value.contains("  ");
        if !named || value.is_empty() || spaced || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return Err(bad("extension field", &format!("{name}: {value}")));
        }
        put_folded(out, name, value).ok_or_else(|| bad("extension field", name))?;
    }
    Ok(())
}
