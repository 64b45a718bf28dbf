//! Which records, and which recipients of each, a claim may see.

use super::proof::proves;
use super::{Opened, Policy};
use crate::model::event::Action;
use crate::model::journey::folded;
use crate::model::record::{Recipient, Record, Role};
use std::collections::BTreeMap;

/// One record to be shown.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub record: &'a Record,
    pub lines: Vec<Line>,
}

/// One recipient to be shown.
#[derive(Debug)]
pub(super) struct Line {
    /// As the sender addressed it.
    pub original: String,
    /// What the record says of it; for an alias or list of several nothing of its members.
    pub said: Recipient,
    /// Place (in the list of nodes) of the record it went on as.
    pub next: Option<usize>,
    /// Forwarding is hidden here: nothing is followed.
    pub hidden: bool,
}

/// The records that are proven to follow from the root, in the order of the hand-overs.
pub(super) fn walk<'a>(o: &'a Opened, policy: &Policy) -> Vec<Node<'a>> {
    let records: Vec<&Record> = o.journey.records.iter().filter(|r| r.role == Role::Hop).collect();
    let Some(root) = records.iter().position(|r| r.key == o.root) else { return vec![] };
    // Recipients of each record that are shown, with the address that the sender knows them by.
    let mut shown: BTreeMap<usize, Shown> = BTreeMap::new();
    shown.insert(root, all_of(records.get(root), o.only.as_deref()));
    let mut done: Vec<(usize, Vec<Line>)> = Vec::new();
    // A record handed on to may stand before its giver where clocks differ; each is taken once, so loops end.
    while let Some((&i, _)) = shown.iter().find(|(i, _)| !done.iter().any(|(d, _)| d == *i)) {
        let Some(record) = records.get(i) else { break };
        let people = shown.get(&i).cloned().unwrap_or_default();
        let mut lines = Vec::new();
        for (original, mine) in people.groups() {
            lines.extend(line(o, record, &original, &mine, &records, policy));
        }
        lines.extend(people.unmatched.iter().map(|p| untold(record, p)));
        for l in &mut lines {
            let Some(next) = l.next else { continue };
            if done.iter().any(|(d, _)| *d == next) || next == i {
                l.next = None;
                continue;
            }
            let Some(c) = records.get(next) else { continue };
            shown.entry(next).or_default().lead(c, &l.said, &l.original);
        }
        done.push((i, lines));
    }
    finish(done, &records)
}

/// Places in the list of records become places in the list of nodes.
fn finish<'a>(done: Vec<(usize, Vec<Line>)>, records: &[&'a Record]) -> Vec<Node<'a>> {
    let places: Vec<usize> = done.iter().map(|(i, _)| *i).collect();
    let place = |i: usize| places.iter().position(|p| *p == i);
    let node = |(i, mut lines): (usize, Vec<Line>)| {
        lines.iter_mut().for_each(|l| l.next = l.next.and_then(place));
        Some(Node { record: records.get(i)?, lines })
    };
    done.into_iter().filter_map(node).collect()
}

#[derive(Debug, Clone, Default)]
struct Shown {
    /// Place of the recipient in its record, and the sender's name for it.
    people: BTreeMap<usize, String>,
    /// Recipients of the giver that the record (not yet tried there, or logged under another name) does not name.
    unmatched: Vec<(Recipient, String)>,
}

impl Shown {
    /// By the address the sender knows.
    fn groups(&self) -> Vec<(String, Vec<usize>)> {
        let mut out: Vec<(String, Vec<usize>)> = Vec::new();
        let mut at: BTreeMap<String, usize> = BTreeMap::new();
        for (n, original) in &self.people {
            let place = *at.entry(folded(original)).or_insert_with(|| {
                out.push((original.clone(), Vec::new()));
                out.len() - 1
            });
            if let Some((_, all)) = out.get_mut(place) {
                all.push(*n);
            }
        }
        out
    }

    /// `p` was handed on to `c`: whom it leads to there.
    fn lead(&mut self, c: &Record, p: &Recipient, original: &str) {
        let found = matching(c, p);
        if found.is_empty() {
            self.unmatched.push((p.clone(), original.to_string()));
        }
        for n in found {
            self.people.entry(n).or_insert_with(|| original.to_string());
        }
    }
}

/// The recipients that the answer begins with. Where it is known whom the sender named, members of an alias that the MTA logs
/// as recipients of their own are not told (RFC 3886, 3.3.3: "expanded" says that there are some).
fn all_of(record: Option<&&Record>, only: Option<&str>) -> Shown {
    let envelope: Vec<String> = record.iter().flat_map(|r| r.envelope.iter().map(|n| folded(&n.address))).collect();
    let is = |p: &Recipient, name: &str| folded(&p.original_recipient) == name || folded(&p.final_recipient) == name;
    let told = |name: &String| record.is_some_and(|r| r.recipients.iter().any(|p| is(p, name)));
    let all_told = !envelope.is_empty() && envelope.iter().all(told);
    let named = |p: &Recipient| !all_told || envelope.iter().any(|name| is(p, name));
    let wanted = |p: &Recipient| {
        named(p) && only.is_none_or(|o| folded(o) == folded(&p.original_recipient) || folded(o) == folded(&p.final_recipient))
    };
    let people = record.into_iter().flat_map(|r| r.recipients.iter().enumerate());
    Shown { people: people.filter(|(_, p)| wanted(p)).map(|(n, p)| (n, p.original_recipient.clone())).collect(), unmatched: vec![] }
}

/// Which recipients of `c` are `p`: those made from it, else those it became, else the only one.
fn matching(c: &Record, p: &Recipient) -> Vec<usize> {
    let (last, first) = (folded(&p.final_recipient), folded(&p.original_recipient));
    let by = |name: &str, of: fn(&Recipient) -> &String| -> Vec<usize> {
        c.recipients.iter().enumerate().filter(|(_, x)| folded(of(x)) == name).map(|(n, _)| n).collect()
    };
    for name in [&last, &first] {
        let made = by(name, |x| &x.original_recipient);
        if !made.is_empty() {
            return made;
        }
    }
    for name in [&last, &first] {
        let became = by(name, |x| &x.final_recipient);
        if !became.is_empty() {
            return became;
        }
    }
    let only = c.recipients.len() == 1 && c.recipient_count.unwrap_or(1) == 1;
    if only || is_forward(p) { (0..c.recipients.len()).collect() } else { vec![] }
}

/// Forwarded within the MTA under a new id (`.forward`, an alias file).
fn is_forward(p: &Recipient) -> bool {
    p.remote_mta.is_none() && p.remote_ip.is_none() && p.remote_queue_id.is_some()
}

fn line(o: &Opened, r: &Record, original: &str, mine: &[usize], records: &[&Record], policy: &Policy) -> Option<Line> {
    let people: Vec<&Recipient> = mine.iter().filter_map(|n| r.recipients.get(*n)).filter(|p| policy.may_show(p)).collect();
    let first = people.first().copied()?;
    let mut said = refined(o, r, first);
    let several = people.iter().any(|p| folded(&p.final_recipient) != folded(&first.final_recipient));
    let next = if several { None } else { next_of(r, &said, records, policy) };
    let goes_to = next.and_then(|n| records.get(n)).map(|c| members(c, &said)).unwrap_or(1);
    if several || (is_forward(&said) && goes_to > 1) {
        let last = people.iter().filter_map(|p| p.last_attempt_date).max_by_key(|d| d.micros);
        return Some(Line { original: original.to_string(), said: expanded(first, original, last), next: None, hidden: false });
    }
    let forwards = folded(&said.final_recipient) != folded(original) || is_forward(&said);
    let hidden = forwards && (policy.hides_forwarding_of(original) || policy.hides_forwarding_of(&said.original_recipient));
    if hidden {
        said.final_recipient = original.to_string();
        said.remote_mta = None;
        said.remote_ip = None;
        if matches!(said.action, Action::Relayed | Action::Transferred | Action::Delivered) {
            said.action = match policy.hidden_forwarding {
                super::Forwarding::Relayed => Action::Relayed,
                super::Forwarding::Delivered => Action::Delivered,
            };
            said.status = "2.0.0".into();
        }
    }
    Some(Line { original: original.to_string(), said, next: next.filter(|_| !hidden), hidden })
}

/// How many different addresses `p` becomes in `c`.
fn members(c: &Record, p: &Recipient) -> usize {
    let mut names: Vec<String> = matching(c, p).iter().filter_map(|n| Some(folded(&c.recipients.get(*n)?.final_recipient))).collect();
    names.sort();
    names.dedup();
    names.len()
}

/// An alias or list with several members: who they are is not said, nor how each fared (RFC 3886, 3.3.3 and 4.2).
fn expanded(p: &Recipient, original: &str, last: Option<crate::model::record::Stamp>) -> Recipient {
    let mut p = p.clone();
    p.final_recipient = original.to_string();
    p.action = Action::Expanded;
    p.status = "2.0.0".into();
    p.remote_mta = None;
    p.remote_ip = None;
    p.remote_queue_id = None;
    p.last_attempt_date = last;
    p
}

/// The record that is proven to be the next one; of several the nearest in time.
fn next_of(r: &Record, p: &Recipient, records: &[&Record], policy: &Policy) -> Option<usize> {
    let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
    let proven = records.iter().enumerate().filter(|(_, c)| proves(r, p, c, policy));
    proven.min_by_key(|(_, c)| (c.arrival_date.micros - when).abs()).map(|(i, _)| i)
}

/// What witnesses say beside the MTA's word (R9): a mail its rules threw away was not delivered.
fn refined(o: &Opened, r: &Record, p: &Recipient) -> Recipient {
    let mut p = p.clone();
    if !matches!(p.action, Action::Delivered | Action::Relayed | Action::Transferred) {
        return p;
    }
    let here =
        |e: &&crate::model::journey::Ending| e.path.last() == Some(&r.key) && folded(&e.last.final_recipient) == folded(&p.final_recipient);
    if let Some(e) = o.journey.endings.iter().filter(here).find(|e| matches!(e.last.action, Action::Opaque | Action::Failed)) {
        p.action = e.last.action;
        p.status = e.last.status.clone();
    }
    p
}

/// A record that does not (yet) name the recipient it was handed: it is queued there, or no more is known.
fn untold(record: &Record, (p, original): &(Recipient, String)) -> Line {
    let mut said = p.clone();
    let queued = !record.closed;
    said.action = if queued { Action::Delayed } else { Action::Opaque };
    said.status = if queued { "4.0.0" } else { "2.0.0" }.into();
    said.last_attempt_date = None;
    said.attempts = 0;
    said.remote_mta = None;
    said.remote_ip = None;
    said.remote_queue_id = None;
    Line { original: original.clone(), said, next: None, hidden: false }
}
