//! The records that may belong together, and the edges between them.

use super::evidence::{client_is, client_is_relay, handed, hands_over, has_recipient, names_host, same_address, same_host};
use super::{By, Edge, Journey, LIKENESS_WINDOW, Lookup, MAX_RECORDS, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record, Role};
use rustc_hash::{FxHashMap, FxHashSet};

/// Records and hand-overs of all messages that an id may mean.
#[derive(Default)]
pub(super) struct Pool {
    pub(super) hops: Vec<Record>,
    witnesses: Vec<Record>,
    at: FxHashMap<String, usize>,
    pub(super) edges: FxHashSet<(usize, usize, By)>,
    /// Child of (record, recipient), where the hand-over names one.
    pub(super) next: FxHashMap<(usize, usize), usize>,
    truncated: bool,
}

impl Pool {
    /// Fetches all that may belong: along hand-overs both ways, and by Message-ID.
    pub(super) fn grow<L: Lookup>(&mut self, lookup: &L, seeds: Vec<Record>, witnesses: Vec<Record>) -> Result<(), L::Error> {
        let mut asked = FxHashSet::default();
        self.at.extend(witnesses.iter().map(|w| (w.key.clone(), usize::MAX)));
        self.witnesses = witnesses;
        let mut todo = seeds;
        while let Some(record) = todo.pop() {
            if self.at.contains_key(&record.key) {
                continue;
            }
            if self.hops.len() >= MAX_RECORDS {
                self.truncated = true;
                break;
            }
            let mut ids: Vec<String> = record.recipients.iter().filter_map(|p| p.remote_queue_id.clone()).collect();
            ids.extend(record.queue_id.clone().into_iter().chain(record.orig_queue_id.clone()).chain(record.message_id.clone()));
            self.at.insert(record.key.clone(), self.hops.len());
            self.hops.push(record);
            for id in ids {
                if !asked.insert(id.clone()) {
                    continue;
                }
                for r in lookup.by_id(&id)? {
                    match r.role {
                        Role::Hop if self.belongs(&r) => todo.push(r),
                        Role::Witness if !self.at.contains_key(&r.key) && self.witnesses.len() < MAX_RECORDS => {
                            self.at.insert(r.key.clone(), usize::MAX);
                            self.witnesses.push(r);
                        }
                        _ => {}
                    }
                }
            }
        }
        self.promote();
        let mut order: Vec<Record> = std::mem::take(&mut self.hops);
        order.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
        self.witnesses.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
        self.hops = order;
        Ok(())
    }

    /// A delivery agent that speaks of a mail no MTA's record here tells of (mail came to it directly, or the
    /// MTA's log is missing) stands for the hop.
    fn promote(&mut self) {
        let speaks = |w: &Record| w.orig_queue_id.is_none() && w.recipients.iter().any(|x| x.last_attempt_date.is_some());
        let joined = |w: &Record| self.hops.iter().any(|r| r.recipients.iter().any(|p| self.witness_of(r, p).any(|x| x.key == w.key)));
        let alone: Vec<String> = self.witnesses.iter().filter(|w| speaks(w) && !joined(w)).map(|w| w.key.clone()).collect();
        let (hops, rest) = std::mem::take(&mut self.witnesses).into_iter().partition(|w: &Record| alone.contains(&w.key));
        self.witnesses = rest;
        self.hops.extend(hops);
    }

    /// Whether a record has to do with one that is here already: a hand-over either way, or the same Message-ID.
    fn belongs(&self, r: &Record) -> bool {
        self.hops.iter().any(|h| {
            let same_mail = r.message_id.is_some() && r.message_id == h.message_id;
            same_mail || handed(h, r).is_some() || handed(r, h).is_some()
        })
    }

    pub(super) fn join(&mut self) {
        self.join_by_queue_id();
        self.join_by_message_id();
    }

    fn join_by_queue_id(&mut self) {
        for (from, r) in self.hops.iter().enumerate() {
            for (n, p) in r.recipients.iter().enumerate() {
                let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
                let mut best: Option<(i64, usize)> = None;
                for (to, c) in self.hops.iter().enumerate() {
                    if to == from || !hands_over(r, p, c) {
                        continue;
                    }
                    let apart = (c.arrival_date.micros - when).abs();
                    if apart <= PROOF_WINDOW && best.is_none_or(|b| (apart, to) < b) {
                        best = Some((apart, to));
                    }
                }
                if let Some((_, to)) = best {
                    self.edges.insert((from, to, By::QueueId));
                    self.next.insert((from, n), to);
                }
            }
        }
        // The receiver names the id it had before (re-injection by a content filter).
        let mut more = Vec::new();
        for (to, c) in self.hops.iter().enumerate() {
            let Some(orig) = &c.orig_queue_id else { continue };
            let earlier = |(_, r): &(usize, &Record)| r.queue_id.as_ref() == Some(orig) && same_host(&r.reporting_mta, &c.reporting_mta);
            let nearest =
                self.hops.iter().enumerate().filter(earlier).min_by_key(|(_, r)| (c.arrival_date.micros - r.arrival_date.micros).abs());
            if let Some((from, _)) = nearest.filter(|(from, _)| *from != to) {
                more.push((from, to));
            }
        }
        for (from, to) in more {
            self.edges.insert((from, to, By::QueueId));
            self.fill_next(from, to);
        }
    }

    /// Recipients of `from` without a known child, whom `to` has too, went there.
    fn fill_next(&mut self, from: usize, to: usize) {
        let (Some(r), Some(c)) = (self.hops.get(from), self.hops.get(to)) else { return };
        for (n, p) in r.recipients.iter().enumerate() {
            if p.action == Action::Relayed && !self.next.contains_key(&(from, n)) && has_recipient(c, p) {
                self.next.insert((from, n), to);
            }
        }
    }

    fn join_by_message_id(&mut self) {
        for to in 0..self.hops.len() {
            if self.edges.iter().any(|e| e.1 == to) {
                continue;
            }
            let Some(c) = self.hops.get(to) else { continue };
            let fits = |(from, p): &(usize, &Record)| *from != to && self.likely(*from, p, c) && !self.reaches(to, *from);
            let found =
                self.hops.iter().enumerate().filter(fits).min_by_key(|(_, p)| (c.arrival_date.micros - p.last_event_date.micros).abs());
            if let Some((from, _)) = found {
                self.edges.insert((from, to, By::MessageId));
                self.fill_next(from, to);
            }
        }
    }

    /// Whether there is a way of edges from `a` to `b`: an edge back would make a loop.
    fn reaches(&self, a: usize, b: usize) -> bool {
        let (mut seen, mut todo) = (FxHashSet::default(), vec![a]);
        while let Some(n) = todo.pop() {
            if n == b {
                return true;
            }
            if seen.insert(n) {
                todo.extend(self.edges.iter().filter(|e| e.0 == n).map(|e| e.1));
            }
        }
        false
    }

    fn likely(&self, from: usize, p: &Record, c: &Record) -> bool {
        if p.message_id.is_none() || p.message_id != c.message_id {
            return false;
        }
        let redirected = |w: &Record, x: &Recipient| {
            let near = (w.last_event_date.micros - c.arrival_date.micros).abs() <= LIKENESS_WINDOW;
            x.redirected_to.as_deref().is_some_and(|to| {
                c.recipients.iter().any(|q| same_address(&q.original_recipient, to) || same_address(&q.final_recipient, to))
            }) && near
                && same_host(&w.reporting_mta, &c.reporting_mta)
        };
        let told = |x| self.witness_of(p, x).any(|w| w.recipients.iter().any(|y| redirected(w, y)));
        let by_sieve = p.recipients.iter().any(|x| redirected(p, x) || told(x));
        let by_hand = p.recipients.iter().enumerate().any(|(n, x)| {
            let open = x.action == Action::Relayed && !self.next.contains_key(&(from, n)) && has_recipient(c, x);
            let when = x.last_attempt_date.unwrap_or(p.last_event_date).micros;
            let near = (c.arrival_date.micros - when).abs() <= LIKENESS_WINDOW;
            let host = names_host(x, &c.reporting_mta) || client_is(c, &p.reporting_mta) || client_is_relay(c, x);
            open && near && host
        });
        by_sieve || by_hand
    }

    /// Witnesses that speak of a recipient of a hop: same host, and its session, queue id or Message-ID.
    pub(super) fn witness_of<'a>(&'a self, r: &'a Record, p: &'a Recipient) -> impl Iterator<Item = &'a Record> {
        self.witnesses.iter().filter(move |w| {
            let host = same_host(&w.reporting_mta, &r.reporting_mta) || names_host(p, &w.reporting_mta);
            let near = (w.arrival_date.micros - p.last_attempt_date.unwrap_or(r.last_event_date).micros).abs() <= PROOF_WINDOW;
            let session = p.remote_queue_id.is_some() && w.queue_id == p.remote_queue_id;
            let filter = w.orig_queue_id.is_some() && w.orig_queue_id == r.queue_id;
            // A delivery agent behind a pipe logs no id of the MTA's.
            let mail =
                p.remote_queue_id.is_none() && p.action == Action::Delivered && w.message_id.is_some() && w.message_id == r.message_id;
            let who = |x: &Recipient| {
                same_address(&x.final_recipient, &p.final_recipient) || same_address(&x.final_recipient, &p.original_recipient)
            };
            // A session's id is its recipient's own; the mailbox behind an address may have another name (sub-addressing).
            let named = w.recipients.iter().any(who) || (session && w.recipients.len() == 1);
            host && near && (filter || ((session || mail) && named))
        })
    }

    pub(super) fn journeys(mut self, seeds: &FxHashSet<String>) -> Vec<Journey> {
        let mut group: Vec<usize> = (0..self.hops.len()).collect();
        fn find(group: &[usize], mut i: usize) -> usize {
            while let Some(&g) = group.get(i) {
                if g == i {
                    break;
                }
                i = g;
            }
            i
        }
        let mut edges: Vec<_> = self.edges.iter().copied().collect();
        edges.sort();
        for (a, b, _) in &edges {
            let (x, y) = (find(&group, *a), find(&group, *b));
            if let Some(slot) = group.get_mut(x.max(y)) {
                *slot = x.min(y);
            }
        }
        let roots: Vec<usize> = (0..self.hops.len()).map(|i| find(&group, i)).collect();
        let mut wanted: Vec<usize> = Vec::new();
        for (i, r) in self.hops.iter().enumerate() {
            if let Some(&g) = roots.get(i).filter(|g| seeds.contains(&r.key) && !wanted.contains(g)) {
                wanted.push(g);
            }
        }
        let out = wanted.iter().map(|g| {
            let members: Vec<usize> = (0..self.hops.len()).filter(|i| roots.get(*i) == Some(g)).collect();
            self.journey(&members, &edges)
        });
        let out: Vec<Journey> = out.collect();
        self.edges.clear();
        out
    }

    fn journey(&self, members: &[usize], edges: &[(usize, usize, By)]) -> Journey {
        let inside = |i: &usize| members.contains(i);
        let edges: Vec<_> = edges.iter().filter(|(a, _, _)| inside(a)).copied().collect();
        let order = in_order(members, &edges);
        let key = |i: usize| self.hops.get(i).map(|r| r.key.clone()).unwrap_or_default();
        let mut endings = Vec::new();
        for &root in order.iter().filter(|i| !edges.iter().any(|e| e.1 == **i)) {
            self.endings(root, &mut endings);
        }
        let records = order.iter().filter_map(|&i| Some(self.upgraded(i, self.hops.get(i)?))).collect();
        let witnesses = self.witnesses.iter().filter(|w| {
            order
                .iter()
                .filter_map(|&i| self.hops.get(i))
                .any(|r| r.recipients.iter().any(|p| self.witness_of(r, p).any(|x| x.key == w.key)))
        });
        Journey {
            records,
            witnesses: witnesses.cloned().collect(),
            edges: edges.iter().map(|&(a, b, by)| Edge { from: key(a), to: key(b), by }).collect(),
            endings,
            truncated: self.truncated,
        }
    }
}

/// Topological order of the members, earliest first among equals.
fn in_order(members: &[usize], edges: &[(usize, usize, By)]) -> Vec<usize> {
    let mut left: Vec<usize> = members.to_vec();
    let mut out = Vec::new();
    while !left.is_empty() {
        let free = left.iter().position(|i| !edges.iter().any(|(a, b, _)| b == i && a != i && left.contains(a))).unwrap_or(0);
        out.push(left.remove(free));
    }
    out
}
