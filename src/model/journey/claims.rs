//! What notifications claim, tied to the hops they speak of (R8): beside the log's word, never in its place.
//!
//! Anybody can mail in a report. It is tied to a record by the queue id of that very host, the envelope id, or the returned
//! Message-ID, and to a recipient by name; what else agrees with the logs is listed with it. One that names a message of ours
//! but a recipient that is not its own, or one that never left us, is kept apart. Reports about nothing known stand alone.

use super::evidence::{client_is, folded, same_host};
use super::index::Names;
use super::{Ending, Journey, Lookup, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record, Reported, Role};
use crate::model::time::DAY;
use rustc_hash::{FxHashMap, FxHashSet};

/// Ids return: a report that names one is about a message of not longer ago than this.
const LONGEST_AGO: i64 = 30 * DAY;
/// Most reports whose own way in is looked up.
const MAX_SESSIONS: usize = 64;
/// Most claims shown beside one recipient (R6).
const MAX_BESIDE: usize = 32;

/// How a claim fits a hop.
struct Tie {
    /// Places of the recipients it is about; empty where the hop has none of that name.
    recipients: Vec<usize>,
    by: &'static str,
    /// The hop itself reports.
    own: bool,
    /// The hop handed the message to the host that reports.
    handed: bool,
}

fn same(a: &Option<String>, b: &Option<String>) -> bool {
    a.as_deref().is_some_and(|a| !a.is_empty() && Some(a) == b.as_deref())
}

/// What ties a report to a hop, if anything.
fn named_by(hop: &Record, report: &Record) -> Option<&'static str> {
    let own = same_host(&hop.reporting_mta, &report.reporting_mta);
    let age = report.arrival_date.micros - hop.arrival_date.micros;
    let timely = (-PROOF_WINDOW..=LONGEST_AGO).contains(&age);
    match () {
        () if own && timely && same(&hop.queue_id, &report.queue_id) => Some("queue_id"),
        () if same(&hop.envelope_id, &report.envelope_id) => Some("envelope_id"),
        () if same(&hop.message_id, &report.message_id) => Some("message_id"),
        () => None,
    }
}

/// Whether a report names a hop's message: by that host's queue id, by envelope id or by Message-ID.
pub fn speaks_of_hop(report: &Record, hop: &Record) -> bool {
    hop.role == Role::Hop && report.role == Role::Report && named_by(hop, report).is_some()
}

fn names(p: &Recipient) -> [String; 2] {
    [folded(&p.original_recipient), folded(&p.final_recipient)]
}

/// How a claim fits a hop, `known` being the hop's names.
fn tie(hop: &Record, known: &Names, report: &Record, claim: &Recipient) -> Option<Tie> {
    let by = named_by(hop, report)?;
    let mut recipients: Vec<usize> = Vec::new();
    for name in [&claim.original_recipient, &claim.final_recipient].into_iter().filter(|n| !n.is_empty()) {
        recipients.extend_from_slice(known.original(name));
        recipients.extend_from_slice(known.last(name));
    }
    if claim.final_recipient.is_empty() && hop.recipients.len() == 1 {
        recipients.push(0);
    }
    recipients.sort_unstable();
    recipients.dedup();
    let went = |p: &Recipient| {
        p.remote_mta.as_deref().is_some_and(|m| same_host(m, &report.reporting_mta))
            || p.remote_ip.as_deref() == Some(&report.reporting_mta)
    };
    Some(Tie {
        own: same_host(&hop.reporting_mta, &report.reporting_mta),
        handed: recipients.iter().filter_map(|n| hop.recipients.get(*n)).any(went),
        recipients,
        by,
    })
}

/// Whether a claim by somebody else may be true of a recipient: the mail left us, or is said of the mailbox it lies in.
fn may_be(p: &Recipient, claim: &Recipient) -> bool {
    let left = matches!(p.action, Action::Relayed | Action::Transferred | Action::Expanded);
    left || (p.action == Action::Delivered && claim.disposition.is_some())
}

fn reported(hop: &Record, report: &Record, claim: &Recipient, t: &Tie, logged: bool) -> Reported {
    let mut agrees = Vec::new();
    let facts = [
        (t.own || t.handed, "reporting_mta"),
        (t.by == "queue_id", "queue_id"),
        (same(&hop.envelope_id, &report.envelope_id), "envelope_id"),
        (same(&hop.message_id, &report.message_id), "message_id"),
        (true, "recipient"),
        (logged, "session"),
    ];
    agrees.extend(facts.into_iter().filter(|(yes, _)| *yes).map(|(_, word)| word));
    Reported {
        key: report.key.clone(),
        action: claim.action,
        status: claim.status.clone(),
        by: report.reporting_mta.clone(),
        date: report.arrival_date,
        reason: claim.reason.clone(),
        diagnostic: claim.diagnostic.clone(),
        disposition: claim.disposition.clone(),
        confidence: claim.confidence.clone(),
        matched: t.by,
        agrees,
    }
}

/// Puts a claim beside a recipient, once: copies to postmaster and the like say the same again.
fn put(p: &mut Recipient, claim: Reported) {
    let again = |r: &Reported| {
        (r.action, &r.status, &r.by, r.date, &r.disposition) == (claim.action, &claim.status, &claim.by, claim.date, &claim.disposition)
    };
    if p.reported.len() >= MAX_BESIDE || p.reported.iter().any(again) {
        return;
    }
    // The log has no word for what happens in a mailbox.
    if p.disposition.is_none() && matches!(claim.disposition.as_deref(), Some("displayed" | "complaint")) {
        p.disposition.clone_from(&claim.disposition);
    }
    p.reported.push(claim);
    p.reported.sort_by(|a, b| (a.date.micros, &a.key).cmp(&(b.date.micros, &b.key)));
}

/// Puts what reports claim beside the recipients of one record, without the rest of its journey.
pub fn annotate(hop: &mut Record, reports: &[Record]) {
    let speaking: Vec<&Record> = reports.iter().filter(|r| speaks_of_hop(r, hop)).collect();
    if speaking.is_empty() {
        return;
    }
    let known = Names::of(hop);
    for report in speaking {
        for claim in &report.recipients {
            let Some(t) = tie(hop, &known, report, claim) else { continue };
            for n in &t.recipients {
                let fits = hop.recipients.get(*n).is_some_and(|p| t.own || may_be(p, claim));
                let said = reported(hop, report, claim, &t, false);
                if let Some(p) = hop.recipients.get_mut(*n).filter(|_| fits) {
                    put(p, said);
                }
            }
        }
    }
}

/// Keys of the reports whose own mail came, by the logs, from the host that reports.
pub(super) fn sessions<L: Lookup>(lookup: &mut L, reports: &[Record]) -> Result<FxHashSet<String>, L::Error> {
    let mut logged = FxHashSet::default();
    for r in reports.iter().take(MAX_SESSIONS) {
        let Some(id) = &r.report_id else { continue };
        let came = |h: &Record| {
            let from = client_is(h, &r.reporting_mta) || same_host(&h.reporting_mta, &r.reporting_mta);
            h.role == Role::Hop && h.message_id.as_deref() == Some(id) && from
        };
        if lookup.by_id(id)?.iter().any(came) {
            logged.insert(r.key.clone());
        }
    }
    Ok(logged)
}

/// Ties reports to a journey's hops and endings.
pub(super) fn attach(j: &mut Journey, reports: &[Record], logged: &FxHashSet<String>) {
    if reports.is_empty() {
        return;
    }
    let known: Vec<Names> = j.records.iter().map(Names::of).collect();
    for report in reports {
        let (mut tied, mut apart) = (false, false);
        for claim in &report.recipients {
            let each = j.records.iter().zip(&known).enumerate();
            let ties: Vec<(usize, Tie)> = each.filter_map(|(n, (h, known))| Some((n, tie(h, known, report, claim)?))).collect();
            if ties.is_empty() {
                continue;
            }
            let chosen = best(ties);
            apart |= chosen.is_empty();
            for (n, t) in chosen {
                let Some(hop) = j.records.get_mut(n) else { continue };
                let said = reported(hop, report, claim, &t, logged.contains(&report.key));
                for p in t.recipients {
                    let Some(p) = hop.recipients.get_mut(p) else { continue };
                    if t.own || t.handed || may_be(p, claim) {
                        put(p, said.clone());
                        tied = true;
                    } else {
                        apart = true;
                    }
                }
            }
        }
        match (tied, apart) {
            (true, _) => j.reports.push(report.clone()),
            (false, true) => j.apart.push(report.clone()),
            (false, false) => {}
        }
    }
    beside_endings(j);
}

/// What stands beside a hop's recipient stands beside how it ended for it, too.
fn beside_endings(j: &mut Journey) {
    let mut said: FxHashMap<String, Vec<(&str, &[Reported])>> = FxHashMap::default();
    for r in &j.records {
        for p in r.recipients.iter().filter(|p| !p.reported.is_empty()) {
            let mut names = names(p).to_vec();
            names.dedup();
            names.into_iter().for_each(|n| said.entry(n).or_default().push((&r.key, &p.reported)));
        }
    }
    for e in j.endings.iter_mut().filter(|_| !said.is_empty()) {
        let mut wanted = names(&e.last).to_vec();
        wanted.extend((!e.member).then(|| folded(&e.original_recipient)));
        wanted.sort_unstable();
        wanted.dedup();
        let claims = wanted.iter().filter_map(|n| said.get(n)).flatten().filter(|(key, _)| e.path.iter().any(|p| p == key));
        for claim in claims.flat_map(|(_, claims)| *claims).collect::<Vec<_>>() {
            put(&mut e.last, claim.clone());
        }
    }
}

/// Which of the hops that a claim fits it is about: the one that reports itself, else those that handed to the host that reports, else the last.
fn best(ties: Vec<(usize, Tie)>) -> Vec<(usize, Tie)> {
    let ties: Vec<(usize, Tie)> = ties.into_iter().filter(|(_, t)| !t.recipients.is_empty()).collect();
    if ties.iter().any(|(_, t)| t.own && t.by == "queue_id") {
        return ties.into_iter().filter(|(_, t)| t.own && t.by == "queue_id").collect();
    }
    if ties.iter().any(|(_, t)| t.own) {
        return ties.into_iter().filter(|(_, t)| t.own).collect();
    }
    if ties.iter().any(|(_, t)| t.handed) {
        return ties.into_iter().filter(|(_, t)| t.handed).collect();
    }
    ties.into_iter().last().into_iter().collect()
}

/// Journeys of messages that only reports speak of: those that hold one of the seeds.
pub(super) fn alone(mut reports: Vec<Record>, seeds: &FxHashSet<String>) -> Vec<Journey> {
    reports.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
    reports.dedup_by(|a, b| a.key == b.key);
    let mut group: Vec<usize> = (0..reports.len()).collect();
    let mut first: FxHashMap<String, usize> = FxHashMap::default();
    for (n, r) in reports.iter().enumerate() {
        let ids = [
            ("m", r.message_id.clone()),
            ("e", r.envelope_id.clone()),
            ("q", r.queue_id.as_ref().map(|q| format!("{}/{q}", r.reporting_mta))),
        ];
        for id in ids.into_iter().filter_map(|(sort, id)| Some(format!("{sort}{}", id.filter(|i| !i.is_empty())?))) {
            let to = *first.entry(id).or_insert(n);
            let (a, b) = (group.get(to).copied().unwrap_or(n), group.get(n).copied().unwrap_or(n));
            group.iter_mut().filter(|g| **g == a || **g == b).for_each(|g| *g = a.min(b));
        }
    }
    let mut wanted: Vec<usize> = reports.iter().zip(&group).filter(|(r, _)| seeds.contains(&r.key)).map(|(_, g)| *g).collect();
    wanted.dedup();
    let mut done = FxHashSet::default();
    let journey = |g: usize| {
        let records: Vec<Record> = reports.iter().zip(&group).filter(|(_, of)| **of == g).map(|(r, _)| r.clone()).collect();
        let endings = endings(&records);
        Journey { records, witnesses: vec![], edges: vec![], endings, truncated: false, reports: vec![], apart: vec![] }
    };
    wanted.into_iter().filter(|g| done.insert(*g)).map(journey).collect()
}

/// How much a claim ends a recipient's way: a failure further on outweighs the hand-over before it.
fn weight(a: Action) -> u8 {
    match a {
        Action::Failed => 5,
        Action::Expanded => 4,
        Action::Delivered => 3,
        Action::Relayed | Action::Transferred => 2,
        Action::Opaque => 1,
        Action::Delayed => 0,
    }
}

/// How it ended for each recipient, by reports alone.
fn endings(reports: &[Record]) -> Vec<Ending> {
    let mut order: Vec<String> = Vec::new();
    let mut claims: FxHashMap<String, Vec<(&Record, &Recipient)>> = FxHashMap::default();
    for r in reports {
        for p in &r.recipients {
            let name = folded(&p.original_recipient);
            if !claims.contains_key(&name) {
                order.push(name.clone());
            }
            claims.entry(name).or_default().push((r, p));
        }
    }
    let mut out = Vec::new();
    for name in order {
        let of_name = claims.remove(&name).unwrap_or_default();
        let mut leaves: Vec<Ending> = Vec::new();
        for &(r, p) in &of_name {
            let same = |l: &&mut Ending| folded(&l.last.final_recipient) == folded(&p.final_recipient);
            match leaves.iter_mut().find(same) {
                Some(l) if weight(p.action) >= weight(l.last.action) => *l = ending(r, p),
                Some(_) => {}
                None => leaves.push(ending(r, p)),
            }
        }
        if let (Some(first), 2..) = (leaves.first(), leaves.len()) {
            let mut head = first.clone();
            head.last.final_recipient.clone_from(&first.original_recipient);
            expand(&mut head);
            leaves.iter_mut().for_each(|l| l.member = true);
            leaves.insert(0, head);
        }
        out.append(&mut leaves);
    }
    out
}

fn expand(e: &mut Ending) {
    e.last.action = Action::Expanded;
    e.last.status = "2.0.0".into();
    e.last.diagnostic = None;
    e.last.reason = None;
}

fn ending(r: &Record, p: &Recipient) -> Ending {
    Ending {
        original_recipient: p.original_recipient.clone(),
        last: p.clone(),
        at: r.reporting_mta.clone(),
        path: vec![r.key.clone()],
        member: false,
    }
}
