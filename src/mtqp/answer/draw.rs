//! From what may be seen to RFC 3886 parts: actions, statuses, names.

use super::policy::in_domains;
use super::proof::is_local;
use super::walk::{Line, Node};
use super::{Answer, Look, Onward, Opened, Policy};
use crate::model::event::Action;
use crate::model::journey::{folded, same_host};
use crate::model::record::{Recipient, Record};
use crate::mtqp::command::is_domain;
use crate::trkstat::{self, Address, Mta, Part, from_xtext};

/// Adds the parts of one opened record to an answer. `left` counts down the recipients that may still be shown.
pub(super) fn draw(o: &Opened, nodes: &[Node], policy: &Policy, envelope_id: &str, left: &mut usize, out: &mut Answer) {
    let site = Site { nodes, policy, names: names(nodes, policy) };
    for (n, lines) in site.blocks() {
        let Some(node) = nodes.get(n) else { continue };
        if lines.is_empty() && !(n == 0 && node.lines.is_empty()) {
            continue;
        }
        let mut part = Part {
            envelope_id: envelope_id.to_string(),
            reporting_mta: Mta::dns(site.name(n)),
            arrival_date: node.record.arrival_date.micros.div_euclid(1_000_000),
            extensions: vec![],
            recipients: vec![],
        };
        for (record, l) in lines.iter().take(*left) {
            let (recipient, onward) = site.recipient(record, l);
            out.onward.extend(onward.map(|host| Onward { part: out.parts.len(), recipient: part.recipients.len(), host }));
            part.recipients.push(recipient);
        }
        let cut = lines.len().saturating_sub(*left);
        *left = left.saturating_sub(lines.len());
        if cut > 0 {
            part.extensions.push(("X-Recipients-Left-Out".into(), cut.to_string()));
        }
        if part.recipients.is_empty() {
            part.recipients.push(nobody(node.record, o, policy));
        }
        out.parts.push(part);
    }
}

/// The message is here, but no log line named a recipient that may be shown.
fn nobody(r: &Record, o: &Opened, policy: &Policy) -> trkstat::Recipient {
    let a = o.only.as_deref().map_or_else(Address::unknown, address);
    let mut p = trkstat::Recipient::opaque(a.clone(), a);
    if !r.closed {
        p.action = Action::Delayed;
        p.status = "4.0.0".into();
        p.will_retry_until = retry_until(r, policy);
    }
    p
}

/// Until when a message that lies queued is tried, seconds since 1970, where that is known.
fn retry_until(r: &Record, policy: &Policy) -> Option<i64> {
    policy.queue_lifetime(&r.mta).map(|s| r.arrival_date.micros.div_euclid(1_000_000) + s)
}

struct Site<'a> {
    nodes: &'a [Node<'a>],
    policy: &'a Policy,
    names: Vec<String>,
}

/// A name for each record's host: the full one where the other end of a hand-over logged it.
fn names(nodes: &[Node], policy: &Policy) -> Vec<String> {
    let mut names: Vec<String> = nodes.iter().map(|n| n.record.reporting_mta.clone()).collect();
    for (n, node) in nodes.iter().enumerate() {
        for l in &node.lines {
            let Some((next, c)) = l.next.and_then(|next| Some((next, nodes.get(next)?))) else { continue };
            lengthen(&mut names, next, l.said.remote_mta.as_deref());
            lengthen(&mut names, n, c.record.client.name.as_deref());
        }
    }
    if let (Some(first), Some(public)) = (names.first_mut(), &policy.public_name) {
        *first = public.clone();
    }
    names.iter().map(|n| host_text(n)).collect()
}

fn lengthen(names: &mut [String], at: usize, full: Option<&str>) {
    if let (Some(name), Some(full)) = (names.get_mut(at), full)
        && !name.contains('.')
        && full.contains('.')
        && same_host(name, full)
    {
        *name = full.trim_end_matches('.').to_lowercase();
    }
}

impl Site<'_> {
    /// The name that a record's host is called by.
    fn name(&self, n: usize) -> String {
        let n = if self.policy.hide_hosts { 0 } else { n };
        self.names.get(n).cloned().unwrap_or_else(|| "unknown".into())
    }

    /// The nodes that get a part of their own, and which lines of which records stand in it.
    fn blocks(&self) -> Vec<(usize, Vec<(&Record, &Line)>)> {
        let mut blocks: Vec<(usize, Vec<(&Record, &Line)>)> = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let lines = node.lines.iter().filter(|l| self.is_shown(n, l)).map(|l| (node.record, l));
            match blocks.first_mut().filter(|_| self.policy.look == Look::Combined) {
                Some((_, all)) => all.extend(lines),
                None => blocks.push((n, lines.collect())),
            }
        }
        blocks
    }

    fn is_shown(&self, n: usize, l: &Line) -> bool {
        match self.policy.look {
            Look::Full => true,
            Look::EdgeOnly => n == 0,
            Look::FinalHop => n == 0 || l.next.is_none(),
            Look::Combined => l.next.is_none(),
        }
    }

    /// The part that a line is followed by in this answer.
    fn next_shown(&self, l: &Line) -> Option<usize> {
        let next = l.next?;
        match self.policy.look {
            Look::Full => Some(next),
            // What is shown of a recipient here is its last word: nothing follows.
            Look::EdgeOnly | Look::Combined => None,
            Look::FinalHop => Some(self.last(next, &l.original)),
        }
    }

    /// Where a recipient's way ends inside.
    fn last(&self, mut n: usize, original: &str) -> usize {
        // Each record is walked once, so a way has no more steps than there are nodes.
        for _ in 0..self.nodes.len() {
            let lines = self.nodes.get(n).map_or(&[][..], |node| &node.lines);
            match lines.iter().find(|l| l.original == original).and_then(|l| l.next) {
                Some(next) => n = next,
                None => break,
            }
        }
        n
    }

    /// One recipient's group, and the host its way goes on at, if that is not ours.
    fn recipient(&self, r: &Record, l: &Line) -> (trkstat::Recipient, Option<String>) {
        let p = &l.said;
        let next = self.next_shown(l);
        let outside = self.outside(p, l);
        let tracked = outside.as_deref().is_some_and(|h| p.next_tracks || self.policy.tracks(h));
        let action = match p.action {
            Action::Relayed | Action::Transferred if next.is_some() || tracked => Action::Transferred,
            Action::Relayed | Action::Transferred => Action::Relayed,
            // A content filter spoken to by LMTP: the mail went on under another id.
            Action::Delivered if next.is_some() => Action::Transferred,
            Action::Delivered if l.next.is_some() => Action::Relayed,
            other => other,
        };
        let attempted = (p.attempts > 0 || p.last_attempt_date.is_some()) && action != Action::Opaque;
        let date = p.last_attempt_date.unwrap_or(r.last_event_date).micros.div_euclid(1_000_000);
        let group = trkstat::Recipient {
            original_recipient: self.orcpt(&l.original).unwrap_or_else(|| address(&l.original)),
            final_recipient: address(&p.final_recipient),
            action,
            status: status(action, &p.status),
            remote_mta: self.remote(p, l, next, action).filter(|_| attempted).map(|n| Mta::dns(host_text(&n))),
            last_attempt_date: attempted.then_some(date),
            will_retry_until: retry_until(r, self.policy).filter(|_| action == Action::Delayed && !r.closed),
            extensions: vec![],
        };
        (group, outside.filter(|_| matches!(action, Action::Relayed | Action::Transferred)))
    }

    /// What the sender itself called a recipient (RFC 3464, 2.3.1), where a gateway saw its ORCPT.
    fn orcpt(&self, original: &str) -> Option<Address> {
        let named = self.nodes.iter().flat_map(|n| &n.record.envelope);
        let orcpt = named.filter(|n| folded(&n.address) == folded(original)).find_map(|n| n.orcpt.as_ref())?;
        Address::from_field(&from_xtext(orcpt)).filter(|a| a.value.len() <= LONGEST / 5)
    }

    /// The host a recipient was handed to, if its records are not here.
    fn outside(&self, p: &Recipient, l: &Line) -> Option<String> {
        let handed = matches!(p.action, Action::Relayed | Action::Transferred);
        let host = p.remote_mta.as_deref().map(|h| h.trim_end_matches('.').to_ascii_lowercase())?;
        let ours = self.nodes.iter().any(|n| same_host(&n.record.reporting_mta, &self.policy.host(&host)));
        (handed && l.next.is_none() && !l.hidden && !is_local(p) && is_domain(&host) && !ours).then_some(host)
    }

    fn remote(&self, p: &Recipient, l: &Line, next: Option<usize>, action: Action) -> Option<String> {
        // Which agent on the inside took it at last is nobody's business; an alias has no one next host.
        if matches!(action, Action::Delivered | Action::Expanded | Action::Opaque) || l.hidden {
            return None;
        }
        if let Some(next) = next.or(l.next) {
            return Some(self.name(next));
        }
        if is_local(p) {
            return None;
        }
        let host = p.remote_mta.clone().or_else(|| p.remote_ip.as_ref().map(|ip| format!("[{ip}]")))?;
        if self.policy.hide_hosts && self.is_inside(&host, p.remote_ip.as_deref()) {
            return Some(self.name(0));
        }
        Some(host)
    }

    fn is_inside(&self, host: &str, ip: Option<&str>) -> bool {
        let private = ip.and_then(|ip| ip.parse().ok()).is_some_and(|ip| !crate::mtqp::addresses::is_public(&ip));
        private || !host.contains('.') || in_domains(host, &self.policy.own_domains)
    }
}

/// The status that goes with an action (RFC 3886, 3.3.4): as logged where it fits.
fn status(action: Action, logged: &str) -> String {
    let fits = |class: char| trkstat::is_status(logged) && logged.starts_with(class) && logged != "2.1.9";
    let or = |class, default: &str| if fits(class) { logged.to_string() } else { default.to_string() };
    match action {
        Action::Relayed => "2.1.9".into(),
        Action::Transferred => or('2', "2.4.0"),
        Action::Delivered | Action::Expanded => or('2', "2.0.0"),
        Action::Opaque => "2.0.0".into(),
        Action::Delayed => or('4', "4.0.0"),
        Action::Failed => or('5', "5.0.0"),
    }
}

/// The most bytes of an address (RFC 5321 allows 320) that are shown; a longer one is cut.
const LONGEST: usize = 400;

/// An address as a field may hold it.
pub fn address(text: &str) -> Address {
    if text.is_empty() {
        return Address::unknown();
    }
    // Escapes are up to ten characters each: what is mostly escapes must be shorter to fit in a line.
    let longest = if text.bytes().all(|b| b.is_ascii_graphic()) { LONGEST } else { LONGEST / 5 };
    Address::mail(text.chars().take(longest).collect::<String>())
}

/// A host name as a field may hold it: log text is written by strangers.
pub fn host_text(name: &str) -> String {
    let clean: String = name.chars().take(255).map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
    if clean.is_empty() { "unknown".into() } else { clean }
}
