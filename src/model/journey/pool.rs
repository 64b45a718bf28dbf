//! The records that may belong together, and the edges between them.

use super::evidence::{apart_from, handed_back, hands_over, requeued, same_host};
use super::index::{Ids, Names, Witnesses};
use super::{By, Edge, Journey, LIKENESS_WINDOW, Lookup, MAX_LOOKUPS, MAX_RECORDS, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Record, Role};
use rustc_hash::{FxHashMap, FxHashSet};

/// A hand-over, by places in the list of hops.
pub(super) type HandOver = (usize, usize, By);

/// Records and hand-overs of all messages that an id may mean.
#[derive(Default)]
pub(super) struct Pool {
    /// MTAs' records, in order of time once the pool is grown.
    pub(super) hops: Vec<Record>,
    /// Addresses of each hop's recipients.
    pub(super) names: Vec<Names>,
    pub(super) witnesses: Witnesses,
    ids: Ids,
    pub(super) edges: FxHashSet<HandOver>,
    /// Child of (record, recipient), where the hand-over names one.
    pub(super) next: FxHashMap<(usize, usize), usize>,
    /// Hops whose mail went on, with all its recipients, under another id of the same host.
    requeued: FxHashMap<usize, usize>,
    truncated: bool,
    /// Notifications met on the way.
    pub(super) reports: Vec<Record>,
}

impl Pool {
    /// Fetches all that may belong: along hand-overs both ways, and by Message-ID. `others` were found on the way
    /// to the seeds, and may belong.
    pub(super) fn grow<L: Lookup>(&mut self, lookup: &mut L, seeds: Vec<Record>, others: Vec<Record>) -> Result<(), L::Error> {
        let is_witness = |r: &Record| r.role == Role::Witness;
        let is_report = |r: &Record| r.role == Role::Report;
        let (reports, seeds): (Vec<_>, Vec<_>) = seeds.into_iter().partition(is_report);
        let (more, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_report);
        self.reports.extend(reports.into_iter().chain(more).take(MAX_RECORDS));
        let (mut witnesses, mut todo): (Vec<_>, Vec<_>) = seeds.into_iter().partition(is_witness);
        // Found under an id, but without a tie to any hop yet: a later hop may be the tie.
        let (more, mut apart): (Vec<_>, Vec<_>) = others.into_iter().filter(|r| r.role != Role::Reject).partition(is_witness);
        witnesses.extend(more);
        todo.retain(|r| r.role == Role::Hop);
        let mut seen: FxHashSet<String> = witnesses.iter().map(|w| w.key.clone()).collect();
        let mut asked = FxHashSet::default();
        let mut more: Vec<String> = witnesses.iter().flat_map(put_back).collect();
        while let Some(record) = todo.pop() {
            if !seen.insert(record.key.clone()) {
                continue;
            }
            if self.hops.len() >= MAX_RECORDS || asked.len() >= MAX_LOOKUPS {
                self.truncated = true;
                break;
            }
            let mut ids: Vec<String> = record.recipients.iter().filter_map(|p| p.remote_queue_id.clone()).collect();
            ids.extend(
                [&record.queue_id, &record.reply_id, &record.orig_queue_id, &record.message_id, &record.envelope_id]
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
            self.ids.add(self.hops.len(), &record);
            self.hops.push(record);
            ids.append(&mut more);
            while let Some(id) = ids.pop() {
                if asked.len() >= MAX_LOOKUPS || !asked.insert(id.clone()) {
                    continue;
                }
                for r in lookup.by_id(&id)? {
                    match r.role {
                        Role::Hop if !seen.contains(&r.key) => apart.push(r),
                        Role::Report if self.reports.len() < MAX_RECORDS => self.reports.push(r),
                        Role::Witness if witnesses.len() < MAX_RECORDS && seen.insert(r.key.clone()) => {
                            ids.extend(put_back(&r));
                            witnesses.push(r);
                        }
                        _ => {}
                    }
                }
            }
            let filters: Vec<&Record> = witnesses.iter().filter(|w| put_back(w).next().is_some()).collect();
            let (tied, rest) = std::mem::take(&mut apart)
                .into_iter()
                .partition(|r| self.ids.concerns(&self.hops, r) || filters.iter().any(|w| speaks_of_id(w, r)));
            apart = rest;
            todo.extend::<Vec<Record>>(tied);
        }
        self.witnesses = Witnesses::of(witnesses);
        self.promote();
        self.hops.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
        self.ids = Ids::of(&self.hops);
        self.names = self.hops.iter().map(Names::of).collect();
        Ok(())
    }

    /// A delivery agent that speaks of a mail no MTA's record here tells of (mail came to it directly, or the
    /// MTA's log is missing) stands for the hop.
    fn promote(&mut self) {
        let joined = self.joined_witnesses(self.hops.iter());
        let speaks = |w: &Record| w.orig_queue_id.is_none() && w.recipients.iter().any(|x| x.last_attempt_date.is_some());
        let (alone, rest): (Vec<_>, Vec<_>) =
            self.witnesses.list().iter().cloned().enumerate().partition(|(i, w)| speaks(w) && !joined.contains(i));
        self.witnesses = Witnesses::of(rest.into_iter().map(|(_, w)| w).collect());
        self.hops.extend(alone.into_iter().map(|(_, w)| w));
    }

    fn joined_witnesses<'a>(&self, hops: impl Iterator<Item = &'a Record>) -> FxHashSet<usize> {
        hops.flat_map(|r| r.recipients.iter().flat_map(move |p| self.witnesses.about(r, p))).collect()
    }

    /// Finds the hand-overs.
    pub(super) fn join(&mut self) {
        self.join_by_queue_id();
        self.join_by_earlier_id();
        self.join_by_requeue();
        self.join_by_message_id();
    }

    fn join_by_queue_id(&mut self) {
        for (from, r) in self.hops.iter().enumerate() {
            for (n, p) in r.recipients.iter().enumerate() {
                let Some(id) = &p.remote_queue_id else { continue };
                let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
                let apart = |to: usize| self.hops.get(to).map_or(i64::MAX, |c| (c.arrival_date.micros - when).abs());
                let takes =
                    |to: &usize| *to != from && self.hops.get(*to).is_some_and(|c| hands_over(r, p, c)) && apart(*to) <= PROOF_WINDOW;
                if let Some(to) = self.ids.own(id).iter().copied().filter(takes).min_by_key(|to| (apart(*to), *to)) {
                    self.edges.insert((from, to, By::QueueId));
                    self.next.insert((from, n), to);
                }
            }
        }
    }

    /// The receiver names the id it had before (re-injection by a content filter, requeueing).
    fn join_by_earlier_id(&mut self) {
        for to in 0..self.hops.len() {
            let Some(c) = self.hops.get(to) else { continue };
            let Some(orig) = &c.orig_queue_id else { continue };
            let at = c.arrival_date.micros;
            let gave = |from: usize| self.hops.get(from).filter(|r| from != to && handed_back(r, c)).map(|r| (from, r));
            let apart = |r: &Record| (apart_from(r, at), (at - r.arrival_date.micros).abs());
            let nearest = self.ids.own(orig).iter().filter_map(|from| gave(*from)).min_by_key(|(from, r)| (apart(r), *from));
            if let Some((from, _)) = nearest {
                self.edges.insert((from, to, By::QueueId));
                self.fill_next(from, to);
            }
        }
    }

    /// A filter took the mail out of the queue and put it back under another id (MailScanner), whoever its recipients are.
    fn join_by_requeue(&mut self) {
        for w in self.witnesses.list() {
            let Some(orig) = &w.orig_queue_id else { continue };
            let at = |id: &str| self.ids.own(id).iter().copied().find(|i| self.hops.get(*i).is_some_and(|r| speaks_of_id(w, r)));
            for (_, to) in w.notices.iter().filter(|(kind, _)| kind == "requeued") {
                if let (Some(from), Some(to)) = (at(orig), at(to))
                    && from != to
                {
                    self.edges.insert((from, to, By::QueueId));
                    self.requeued.insert(from, to);
                }
            }
        }
    }

    /// Recipients of `from` without a known child, whom `to` has too, went there.
    pub(super) fn fill_next(&mut self, from: usize, to: usize) {
        let (Some(r), Some(names), Some(c)) = (self.hops.get(from), self.names.get(to), self.hops.get(to)) else { return };
        let requeued = requeued(r, c);
        for (n, p) in r.recipients.iter().enumerate() {
            let went = p.action == Action::Relayed || (requeued && p.action == Action::Delayed);
            if went && !self.next.contains_key(&(from, n)) && names.has_recipient(p) {
                self.next.insert((from, n), to);
            }
        }
    }

    /// The journeys that hold one of the seeds.
    pub(super) fn journeys(self, seeds: &FxHashSet<String>) -> Vec<Journey> {
        let mut edges: Vec<HandOver> = self.edges.iter().copied().collect();
        edges.sort();
        let groups = groups(self.hops.len(), &edges);
        let mut wanted: Vec<usize> = Vec::new();
        for (r, group) in self.hops.iter().zip(&groups) {
            if seeds.contains(&r.key) && !wanted.contains(group) {
                wanted.push(*group);
            }
        }
        let members = |g: usize| groups.iter().enumerate().filter(|(_, of)| **of == g).map(|(i, _)| i).collect::<Vec<_>>();
        wanted.into_iter().map(|g| self.journey(&members(g), &edges)).collect()
    }

    fn journey(&self, members: &[usize], edges: &[HandOver]) -> Journey {
        let inside: FxHashSet<usize> = members.iter().copied().collect();
        let edges: Vec<HandOver> = edges.iter().filter(|(a, _, _)| inside.contains(a)).copied().collect();
        let order = in_order(members, &edges);
        let key = |i: usize| self.hops.get(i).map(|r| r.key.clone()).unwrap_or_default();
        let mut endings = Vec::new();
        for &root in order.iter().filter(|i| !edges.iter().any(|e| e.1 == **i)) {
            let mut at = root;
            for _ in 0..self.requeued.len() {
                at = self.requeued.get(&at).copied().unwrap_or(at);
            }
            self.endings(at, &mut endings);
        }
        let mut witnesses: Vec<usize> = self.joined_witnesses(order.iter().filter_map(|&i| self.hops.get(i))).into_iter().collect();
        witnesses.sort_unstable();
        Journey {
            records: order.iter().filter_map(|&i| Some(self.upgraded(i, self.hops.get(i)?))).collect(),
            witnesses: witnesses.into_iter().filter_map(|i| self.witnesses.list().get(i).cloned()).collect(),
            edges: edges.iter().map(|&(a, b, by)| Edge { from: key(a), to: key(b), by }).collect(),
            endings,
            truncated: self.truncated,
            reports: Vec::new(),
            apart: Vec::new(),
        }
    }
}

/// Both ids of a mail that a filter took out of the queue and put back.
fn put_back(w: &Record) -> impl Iterator<Item = String> + '_ {
    let put = w.notices.iter().filter(|(kind, _)| kind == "requeued").map(|(_, id)| id.clone());
    let taken = w.orig_queue_id.iter().filter(|_| w.notices.iter().any(|(kind, _)| kind == "requeued")).cloned();
    put.chain(taken)
}

/// Whether `r` is one of the two messages that such a filter speaks of: that id, on its host, about that time.
fn speaks_of_id(w: &Record, r: &Record) -> bool {
    let id = r.queue_id.as_ref().is_some_and(|id| put_back(w).any(|named| named == *id));
    let near = (r.arrival_date.micros - w.arrival_date.micros).abs() <= LIKENESS_WINDOW;
    id && near && same_host(&r.reporting_mta, &w.reporting_mta)
}

/// Which hops hang together: for each its group, named by its first member.
fn groups(hops: usize, edges: &[HandOver]) -> Vec<usize> {
    let mut of: Vec<usize> = (0..hops).collect();
    loop {
        let mut changed = false;
        for (a, b, _) in edges {
            if let (Some(&x), Some(&y)) = (of.get(*a), of.get(*b)) {
                let least = x.min(y);
                for i in [*a, *b] {
                    if let Some(slot) = of.get_mut(i).filter(|s| **s != least) {
                        *slot = least;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            return of;
        }
    }
}

/// Topological order of the members, earliest first among equals.
fn in_order(members: &[usize], edges: &[HandOver]) -> Vec<usize> {
    let mut before: FxHashMap<usize, usize> = members.iter().map(|m| (*m, 0)).collect();
    for (_, to, _) in edges.iter().filter(|(a, b, _)| a != b) {
        *before.entry(*to).or_default() += 1;
    }
    let mut left: std::collections::BTreeSet<usize> = members.iter().copied().collect();
    let mut out = Vec::new();
    while let Some(next) = left.iter().copied().find(|i| before.get(i) == Some(&0)).or_else(|| left.first().copied()) {
        left.remove(&next);
        out.push(next);
        for (_, to, _) in edges.iter().filter(|(a, b, _)| *a == next && a != b) {
            before.entry(*to).and_modify(|n| *n = n.saturating_sub(1));
        }
    }
    out
}
