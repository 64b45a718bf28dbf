//! The JSON of records and journeys (names do not change without a version bump).

use crate::model::journey::{Ending, Journey};
use crate::model::record::{EventLine, Recipient, Record, Reported, Role, Stamp};
use serde::Serialize;

#[derive(Serialize)]
struct ClientJson<'a> {
    name: Option<&'a str>,
    ip: Option<&'a str>,
}

#[derive(Serialize)]
struct RecipientJson<'a> {
    original_recipient: &'a str,
    final_recipient: &'a str,
    action: &'static str,
    status: &'a str,
    remote_mta: Option<&'a str>,
    remote_ip: Option<&'a str>,
    remote_queue_id: Option<&'a str>,
    last_attempt_date: Option<String>,
    will_retry_until: Option<String>,
    attempts: u32,
    diagnostic: Option<&'a str>,
    disposition: Option<&'a str>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_from: Option<&'a str>,
    reported: Vec<ReportedJson<'a>>,
}

/// What a notification claims beside a log's word.
#[derive(Serialize)]
struct ReportedJson<'a> {
    action: &'static str,
    status: &'a str,
    by: &'a str,
    date: String,
    reason: Option<&'a str>,
    diagnostic: Option<&'a str>,
    disposition: Option<&'a str>,
    confidence: Option<&'a str>,
    matched: &'static str,
    agrees: &'a [&'static str],
    key: &'a str,
}

fn claims(p: &Recipient) -> Vec<ReportedJson<'_>> {
    p.reported.iter().map(claim).collect()
}

fn claim(c: &Reported) -> ReportedJson<'_> {
    ReportedJson {
        action: c.action.as_str(),
        status: &c.status,
        by: &c.by,
        date: c.date.rfc3339(),
        reason: c.reason.as_deref(),
        diagnostic: c.diagnostic.as_deref(),
        disposition: c.disposition.as_deref(),
        confidence: c.confidence.as_deref(),
        matched: c.matched,
        agrees: &c.agrees,
        key: &c.key,
    }
}

#[derive(Serialize)]
struct EventJson<'a> {
    time: String,
    kind: &'static str,
    program: &'a str,
    line: &'a str,
}

/// One record.
#[derive(Serialize)]
pub struct RecordJson<'a> {
    key: &'a str,
    reporting_mta: &'a str,
    mta: &'a str,
    role: Role,
    queue_id: Option<&'a str>,
    arrival_date: String,
    last_event_date: String,
    closed: bool,
    message_id: Option<&'a str>,
    envelope_id: Option<&'a str>,
    envelope_from: Option<&'a str>,
    size: Option<u64>,
    client: ClientJson<'a>,
    auth_user: Option<&'a str>,
    subject: Option<&'a str>,
    verdict: Option<&'a str>,
    remark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_by: Option<&'a str>,
    recipients: Vec<RecipientJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<Vec<EventJson<'a>>>,
}

fn recipient(p: &Recipient) -> RecipientJson<'_> {
    RecipientJson {
        original_recipient: &p.original_recipient,
        final_recipient: &p.final_recipient,
        action: p.action.as_str(),
        status: &p.status,
        remote_mta: p.remote_mta.as_deref(),
        remote_ip: p.remote_ip.as_deref(),
        remote_queue_id: p.remote_queue_id.as_deref(),
        last_attempt_date: p.last_attempt_date.map(Stamp::rfc3339),
        will_retry_until: p.will_retry_until.map(Stamp::rfc3339),
        attempts: p.attempts,
        diagnostic: p.diagnostic.as_deref(),
        disposition: p.disposition.as_deref(),
        source: p.source,
        reason: p.reason.as_deref(),
        confidence: p.confidence.as_deref(),
        status_from: p.status_from.as_deref(),
        reported: claims(p),
    }
}

fn event(e: &EventLine) -> EventJson<'_> {
    EventJson { time: e.time.rfc3339(), kind: e.kind, program: &e.program, line: &e.line }
}

/// A record as JSON; with its lines if asked.
pub fn record(r: &Record, lines: bool) -> RecordJson<'_> {
    RecordJson {
        key: &r.key,
        reporting_mta: &r.reporting_mta,
        mta: &r.mta,
        role: r.role,
        queue_id: r.queue_id.as_deref(),
        arrival_date: r.arrival_date.rfc3339(),
        last_event_date: r.last_event_date.rfc3339(),
        closed: r.closed,
        message_id: r.message_id.as_deref(),
        envelope_id: r.envelope_id.as_deref(),
        envelope_from: r.envelope_from.as_deref(),
        size: r.size,
        client: ClientJson { name: r.client.name.as_deref(), ip: r.client.ip.as_deref() },
        auth_user: r.auth_user.as_deref(),
        subject: r.subject.as_deref(),
        verdict: r.verdict.as_deref(),
        remark: r.remark.as_deref(),
        report_id: r.report_id.as_deref(),
        reported_by: r.reported_by.as_deref(),
        recipients: r.recipients.iter().map(recipient).collect(),
        events: lines.then(|| r.events.iter().map(event).collect()),
    }
}

#[derive(Serialize)]
struct EdgeJson<'a> {
    from: &'a str,
    to: &'a str,
    by: &'static str,
}

#[derive(Serialize)]
struct EndingJson<'a> {
    original_recipient: &'a str,
    final_recipient: &'a str,
    action: &'static str,
    status: &'a str,
    at: &'a str,
    date: Option<String>,
    diagnostic: Option<&'a str>,
    disposition: Option<&'a str>,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    reported: Vec<ReportedJson<'a>>,
    path: &'a [String],
}

/// A journey; further ones of the same id inside the first.
#[derive(Serialize, Default)]
pub struct JourneyJson<'a> {
    message_id: Option<&'a str>,
    envelope_id: Option<&'a str>,
    records: Vec<RecordJson<'a>>,
    edges: Vec<EdgeJson<'a>>,
    recipients: Vec<EndingJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    witnesses: Vec<RecordJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports: Vec<RecordJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reports_apart: Vec<RecordJson<'a>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    journeys: Vec<JourneyJson<'a>>,
}

fn ending(e: &Ending) -> EndingJson<'_> {
    EndingJson {
        original_recipient: &e.original_recipient,
        final_recipient: &e.last.final_recipient,
        action: e.last.action.as_str(),
        status: &e.last.status,
        at: &e.at,
        date: e.last.last_attempt_date.map(Stamp::rfc3339),
        diagnostic: e.last.diagnostic.as_deref(),
        disposition: e.last.disposition.as_deref(),
        source: e.last.source,
        reason: e.last.reason.as_deref(),
        reported: claims(&e.last),
        path: &e.path,
    }
}

fn one(j: &Journey, lines: bool) -> JourneyJson<'_> {
    JourneyJson {
        message_id: j.records.iter().find_map(|r| r.message_id.as_deref()),
        envelope_id: j.records.iter().chain(&j.witnesses).find_map(|r| r.envelope_id.as_deref()),
        records: j.records.iter().map(|r| record(r, lines)).collect(),
        edges: j.edges.iter().map(|e| EdgeJson { from: &e.from, to: &e.to, by: e.by.as_str() }).collect(),
        recipients: j.endings.iter().map(ending).collect(),
        witnesses: j.witnesses.iter().map(|r| record(r, lines)).collect(),
        reports: j.reports.iter().map(|r| record(r, lines)).collect(),
        reports_apart: j.apart.iter().map(|r| record(r, lines)).collect(),
        truncated: j.truncated,
        journeys: vec![],
    }
}

/// All journeys of one id, as exactly one object.
pub fn journeys(all: &[Journey], lines: bool) -> JourneyJson<'_> {
    let mut each = all.iter().map(|j| one(j, lines));
    let mut first = each.next().unwrap_or_default();
    first.journeys = each.collect();
    first
}
