//! Reports that come back as mail: what a system further on says became of a message.
//!
//! ```text
//! mail -> message parts -> report parts (RFC 3464, 6533, 3886, 8098, 5965), else the text, by dialect -> Report
//! ```
//! A report is a claim by whoever sent it (R8): this module says what it claims, never whether it is true.
//! Dialects are data, `parsers/dsn/*.toml`; so are the words for reasons. Everything is bounded: parts, depth, fields, claims.

mod built_in;
mod classify;
mod dialect;
mod fields;
mod general;
mod mail;
mod mime;
mod reason;
mod report;
mod special;
mod status;
#[cfg(test)]
mod tests;

pub use classify::Other;
pub use dialect::Dialect;
pub use report::{Claim, Report, Sort};
pub use status::StatusFrom;

use super::file::ParserError;
use crate::model::event::Action;
use crate::model::time::{Precision, SECOND, rfc3339};
use fields::looks_like_status;
use mail::{Mail, bare, inner_address, returned_head, take_over};
use mime::{parts, with_newlines};
use reason::Reasons;
use std::path::Path;

/// The built-in dialect files.
const BUILT_IN: &[(&str, &str)] = built_in::FILES;
const REASONS: &str = include_str!("../../../parsers/dsn/reasons.toml");
/// How deep reports are looked for in messages within messages.
const MAX_FORWARDS: u8 = 3;

/// What a mail was read as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// One or more reports.
    Reports(Vec<Report>),
    /// None.
    Other(Other),
}

/// Reads mails: the dialects and the words for reasons.
#[derive(Debug)]
pub struct Reader {
    dialects: Vec<Dialect>,
    reasons: Reasons,
}

impl Reader {
    /// The built-in files, then those of `DIR/dsn`: a file with the name of a built-in one takes its place.
    ///
    /// # Errors
    /// A file that cannot be read or is not as `parsers/README.md` describes.
    pub fn load(dir: Option<&Path>) -> Result<Self, ParserError> {
        let mut dialects = Vec::new();
        for (origin, text) in BUILT_IN {
            dialects.push(Dialect::read(text, origin)?);
        }
        let mut reasons = Reasons::read(REASONS, "parsers/dsn/reasons.toml")?;
        let own = dir.map(|d| d.join("dsn")).filter(|d| d.is_dir());
        for (origin, text) in own.map(|d| files(&d)).transpose()?.unwrap_or_default() {
            if origin.ends_with("/reasons.toml") {
                reasons = Reasons::read(&text, &origin)?;
                continue;
            }
            let dialect = Dialect::read(&text, &origin)?;
            dialects.retain(|d| d.name != dialect.name);
            // A site's own come first.
            dialects.insert(0, dialect);
        }
        dialects.sort_by_key(|d| d.general);
        Ok(Reader { dialects, reasons })
    }

    /// The dialects, in the order they are asked.
    pub fn dialects(&self) -> &[Dialect] {
        &self.dialects
    }

    /// Reads one mail, with LF, CRLF or CR line ends. Never fails: what cannot be read is [`Reading::Other`].
    pub fn read(&self, mail: &[u8]) -> Reading {
        self.read_at(&with_newlines(mail), 0)
    }

    fn read_at(&self, mail: &[u8], depth: u8) -> Reading {
        let parts = parts(mail);
        let Some(head) = parts.first().map(|p| p.head).filter(|h| !h.is_empty()) else { return Reading::Other(Other::NoMail) };
        let mut mail = Mail { head, returned: returned_head(&parts), text: None, parts };
        let mut reports = self.by_parts(&mut mail);
        let unclear = reports.is_empty();
        if unclear {
            match self.by_text(&mut mail, depth) {
                Ok(found) => reports = found,
                Err(Some(other)) => return Reading::Other(other),
                Err(None) => {}
            }
        }
        if reports.is_empty() && depth < MAX_FORWARDS {
            for part in mail.parts.iter().filter(|p| matches!(p.kind.as_str(), "message/rfc822" | "message/global")) {
                if let Reading::Reports(inner) = self.read_at(&part.bytes(), depth + 1) {
                    reports.extend(inner);
                }
            }
            for r in &mut reports {
                r.forwarded = true;
                r.claims.iter_mut().for_each(|c| c.low = true);
            }
        }
        let automatic = mail.head.first("auto-submitted").is_some_and(|v| !v.trim().eq_ignore_ascii_case("no"));
        let had = !reports.is_empty() || mail.is_report();
        reports.retain(|r| !r.claims.is_empty());
        match (reports.is_empty(), had, automatic) {
            (false, ..) => Reading::Reports(reports),
            (true, true, _) => Reading::Other(Other::Empty),
            (true, false, true) => Reading::Other(Other::AutoReply),
            (true, false, false) => Reading::Other(Other::Mail),
        }
    }

    /// Reports that are parts of the mail.
    fn by_parts(&self, mail: &mut Mail) -> Vec<Report> {
        let mut reports = Vec::new();
        for part in &mail.parts {
            match part.kind.as_str() {
                "message/delivery-status" | "message/global-delivery-status" => mail.delivery(&part.text(), Sort::Delivery, &mut reports),
                "message/tracking-status" => mail.delivery(&part.text(), Sort::Tracking, &mut reports),
                "message/disposition-notification" | "message/global-disposition-notification" => {
                    reports.extend(special::disposition(part, mail));
                }
                "message/feedback-report" => reports.push(special::complaint(part, mail)),
                _ if mail.may_be_status(part) => {
                    let text = part.text();
                    if looks_like_status(&text) {
                        mail.delivery(&text, Sort::Delivery, &mut reports);
                    }
                }
                _ => {}
            }
        }
        self.refine(mail, &mut reports);
        reports
    }

    /// What the text beside report parts adds: claims where they have none, diagnostics where they give none, whom they mean,
    /// corrections.
    fn refine(&self, mail: &mut Mail, reports: &mut [Report]) {
        let listed = mail.head.first("x-failed-recipients").unwrap_or_default().to_lowercase();
        let unlisted = |c: &Claim| c.action == Action::Failed && !listed.is_empty() && !listed.contains(&c.final_recipient.to_lowercase());
        // Failures are reported as they are; of what else they say some systems use the wrong word.
        let unsure = |c: &Claim| c.diagnostic.is_none() || c.action != Action::Failed || unlisted(c);
        let asks = |r: &Report| r.sort == Sort::Delivery && (r.claims.is_empty() || r.claims.iter().any(unsure));
        if reports.iter().any(asks) {
            let text = mail.text().to_string();
            let header = |name: &str| mail.head.all(name).reduce(|a, b| a + "\n" + &b);
            if let Some(dialect) = self.dialects.iter().find(|d| !d.general && d.is_of(&header, &text)) {
                let understood = dialect.understand(&header, &text);
                for report in reports.iter_mut().filter(|r| asks(r)) {
                    take_over(report, &understood);
                    dialect.correct(&mut report.claims, &text);
                }
            }
        }
        reports.iter_mut().for_each(|r| self.settle(r));
    }

    /// A report in the words of a dialect. `Err` with what it is instead, or with nothing where that is not known.
    fn by_text(&self, mail: &mut Mail, depth: u8) -> Result<Vec<Report>, Option<Other>> {
        if let Some(other) = classify::is_other(mail.head) {
            return Err(Some(other));
        }
        let text = mail.text().to_string();
        let head = mail.head;
        let header = |name: &str| head.all(name).reduce(|a, b| a + "\n" + &b);
        for dialect in &self.dialects {
            if (dialect.general && (depth > 0 || !classify::is_from_daemon(head))) || !dialect.is_of(&header, &text) {
                continue;
            }
            let mut understood = dialect.understand(&header, &text);
            if dialect.general {
                let own: Vec<String> =
                    ["from", "to", "return-path"].iter().filter_map(|n| header(n)).filter_map(|v| inner_address(&v)).collect();
                understood.claims = general::read(&text, &own);
            }
            if understood.claims.is_empty() {
                continue;
            }
            if mail.returned.is_none() && !understood.returned.is_empty() {
                mail.returned = Some(understood.returned.clone().into_bytes());
            }
            dialect.correct(&mut understood.claims, &text);
            let mut report = mail.report(Sort::Delivery, &dialect.name);
            let mut take = |name: &str| understood.fields.remove(name);
            report.reporting_mta = take("reporting_mta");
            report.queue_id = take("queue_id");
            report.message_id = report.message_id.take().or_else(|| take("message_id").map(|m| bare(&m)));
            report.claims = understood.claims;
            report.left_out = understood.left_out;
            self.settle(&mut report);
            return Ok(vec![report]);
        }
        Err(None)
    }

    /// Fills in what a report left out, marked as such: the status, and the reason's word.
    fn settle(&self, report: &mut Report) {
        for c in &mut report.claims {
            let said = c.diagnostic.clone().unwrap_or_default();
            if c.status.is_empty() {
                let fits = |s: &&str| match c.action {
                    Action::Failed => s.starts_with(['4', '5']),
                    Action::Delayed => s.starts_with('4'),
                    _ => s.starts_with('2'),
                };
                let class = if c.action == Action::Delayed { '4' } else { '5' };
                let bad = matches!(c.action, Action::Failed | Action::Delayed);
                let code = || status::smtp_code(&said).and_then(status::of_smtp_code).filter(fits);
                let words = || self.reasons.status_of(&said, class).filter(|_| bad);
                (c.status, c.status_from) = if let Some(s) = status::enhanced(&said).filter(fits) {
                    (s.to_string(), StatusFrom::Diagnostic)
                } else if let Some(s) = words() {
                    (s, StatusFrom::Text)
                } else if let Some(s) = code() {
                    (s.to_string(), StatusFrom::SmtpCode)
                } else {
                    (status::of_action(Some(c.action)).to_string(), StatusFrom::Action)
                };
            }
            if c.reason.is_none() && matches!(c.action, Action::Failed | Action::Delayed) {
                c.reason = self.reasons.of(&said, &c.status).map(str::to_string);
            }
        }
    }

    /// Runs the samples of all files; one message a disagreement.
    pub fn check_samples(&self) -> Vec<String> {
        let mut wrong = self.reasons.check();
        for d in &self.dialects {
            if !d.samples.iter().any(|s| s.1.is_empty()) || !d.samples.iter().any(|s| !s.1.is_empty()) {
                wrong.push(format!("{}: needs a sample that is of it and one (without `expect`) that is not", d.origin));
            }
            for (n, (mail, expect)) in d.samples.iter().enumerate() {
                wrong.extend(self.check(d, mail, expect).map(|m| format!("{}: sample {}: {m}", d.origin, n + 1)));
            }
        }
        wrong
    }

    /// Samples of all dialects.
    pub fn samples(&self) -> usize {
        self.dialects.iter().map(|d| d.samples.len()).sum()
    }

    fn check(&self, d: &Dialect, mail: &str, expect: &[std::collections::BTreeMap<String, String>]) -> Option<String> {
        let reports = match self.read(mail.trim_start().as_bytes()) {
            Reading::Reports(r) => r,
            Reading::Other(_) => vec![],
        };
        let claims: Vec<&Claim> = reports.iter().flat_map(|r| &r.claims).collect();
        if expect.is_empty() {
            let taken = reports.iter().any(|r| r.dialect == d.name);
            return taken.then(|| format!("is taken for {}: {claims:?}", d.name));
        }
        let own = reports.iter().all(|r| r.dialect == d.name || r.dialect == "rfc3464");
        if claims.len() != expect.len() || !own {
            return Some(format!("expected {} claims of {}, got {:?}", expect.len(), d.name, reports));
        }
        let mut first = reports.iter();
        let report = first.next()?;
        for (claim, wanted) in claims.iter().zip(expect) {
            for (field, value) in wanted {
                let got = field_of(report, claim, field);
                if got.as_deref() != Some(value) {
                    return Some(format!("{field}: expected `{value}`, got {got:?}"));
                }
            }
        }
        None
    }
}

/// Names for [`field_of`], in the order they are shown; whether each is the claim's own.
pub const FIELDS: [(&str, bool); 22] = [
    ("reporting_mta", false),
    ("queue_id", false),
    ("envelope_id", false),
    ("message_id", false),
    ("envelope_from", false),
    ("subject", false),
    ("arrival_date", false),
    ("report_id", false),
    ("dialect", false),
    ("original_recipient", true),
    ("final_recipient", true),
    ("action", true),
    ("status", true),
    ("status_from", true),
    ("reason", true),
    ("remote_mta", true),
    ("remote_ip", true),
    ("last_attempt_date", true),
    ("will_retry_until", true),
    ("disposition", true),
    ("confidence", true),
    ("diagnostic", true),
];

/// Whether a field of a report says more than the names for [`field_of`] give: `Final-Log-ID`, `X-Actual-Recipient` and others.
pub fn is_further(name: &str) -> bool {
    const READ: [&str; 11] = [
        "reporting-mta",
        "original-envelope-id",
        "arrival-date",
        "final-recipient",
        "original-recipient",
        "action",
        "status",
        "remote-mta",
        "diagnostic-code",
        "last-attempt-date",
        "will-retry-until",
    ];
    !READ.iter().any(|n| n.eq_ignore_ascii_case(name))
}

/// A claim's (or its report's) field by name, as samples and the corpus in `tests/dsn` name them.
pub fn field_of(r: &Report, c: &Claim, name: &str) -> Option<String> {
    let own = |v: &str| Some(v.to_string());
    let stamp = |seconds: Option<i64>| seconds.map(|s| rfc3339(s.saturating_mul(SECOND), Precision::Second));
    match name {
        "final_recipient" => own(&c.final_recipient),
        "original_recipient" => c.original_recipient.clone(),
        "action" => own(c.action.as_str()),
        "status" => own(&c.status),
        "status_from" => c.status_from.as_str().map(str::to_string),
        "remote_mta" => c.remote_mta.clone(),
        "remote_ip" => c.remote_ip.clone(),
        "diagnostic" => c.diagnostic.clone(),
        "reason" => c.reason.clone(),
        "disposition" => c.disposition.clone(),
        "confidence" => c.low.then(|| "low".to_string()),
        "dialect" => own(&r.dialect),
        "reporting_mta" => r.reporting_mta.clone(),
        "queue_id" => r.queue_id.clone(),
        "envelope_id" => r.envelope_id.clone(),
        "message_id" => r.message_id.clone(),
        "envelope_from" => r.envelope_from.clone(),
        "subject" => r.subject.clone(),
        "arrival_date" => stamp(r.arrival_date),
        "last_attempt_date" => stamp(c.last_attempt_date),
        "will_retry_until" => stamp(c.will_retry_until),
        "report_id" => r.report_id.clone(),
        _ => None,
    }
}

fn files(dir: &Path) -> Result<Vec<(String, String)>, ParserError> {
    let io = |path: &Path, error| ParserError::Io { path: path.display().to_string(), error };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| io(dir, e))? {
        let path = entry.map_err(|e| io(dir, e))?.path();
        if path.extension().is_some_and(|e| e == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().map(|p| Ok((p.display().to_string(), std::fs::read_to_string(&p).map_err(|e| io(&p, e))?))).collect()
}
