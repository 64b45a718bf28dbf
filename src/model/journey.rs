//! The journey: the records of one message, joined across MTAs, and how it ended for each recipient.
//!
//! Joined is by hand-over first: the reply of the next host names a queue id, and a record of that
//! host has it (`queue_id`). Where no id was logged, records of one Message-ID are joined when the
//! one handed a common recipient to the other's host within a short while (`message_id`); the edge
//! says so, since a Message-ID is the sender's choice and can be copied (R8).
//! Nothing here is stored: it is derived each time from the records found (R1).

use super::event::Action;
use super::record::{Recipient, Record, Role};
use super::time::SECOND;
use rustc_hash::{FxHashMap, FxHashSet};

/// Where the records come from.
pub trait Lookup {
    /// Why a look-up failed.
    type Error;
    /// Records that have this id as queue id, Message-ID, ENVID, next host's queue id or earlier queue id.
    fn by_id(&self, id: &str) -> Result<Vec<Record>, Self::Error>;
}

/// Most records of one journey (R6).
pub const MAX_RECORDS: usize = 2_000;
/// Clocks of two hosts may differ by a zone: how far apart both ends of a proven hand-over may be.
pub const PROOF_WINDOW: i64 = 14 * 3600 * SECOND;
/// How far apart records joined by likeness may be.
pub const LIKENESS_WINDOW: i64 = 600 * SECOND;

/// Why two records are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// The reply (or the log's own word) names the next record's queue id.
    QueueId,
    /// Both bear the same ENVID.
    EnvelopeId,
    /// Both bear the same Message-ID and the hand-over fits.
    MessageId,
}

impl By {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            By::QueueId => "queue_id",
            By::EnvelopeId => "envelope_id",
            By::MessageId => "message_id",
        }
    }
}

/// A hand-over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Key of the record that handed on.
    pub from: String,
    /// Key of the record that took it.
    pub to: String,
    /// Why they are joined.
    pub by: By,
}

/// How it ended for one recipient, as the sender addressed it.
#[derive(Debug, Clone)]
pub struct Ending {
    /// As the sender addressed it; for members of an alias, the alias.
    pub original_recipient: String,
    /// Where it went in the end.
    pub last: Recipient,
    /// Host that says so.
    pub at: String,
    /// Keys of the records on the way.
    pub path: Vec<String>,
    /// Whether this line is a member of an alias that has its own line.
    pub member: bool,
}

/// One message's way.
#[derive(Debug, Clone)]
pub struct Journey {
    /// Hops, in the order of the hand-overs, then of time.
    pub records: Vec<Record>,
    /// What other programs said of it, joined to the hops.
    pub witnesses: Vec<Record>,
    /// Hand-overs.
    pub edges: Vec<Edge>,
    /// How it ended.
    pub endings: Vec<Ending>,
    /// Whether a bound cut it short.
    pub truncated: bool,
}

/// Angle brackets off an id.
pub fn bare_id(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(id)
}

/// All journeys that an id (Message-ID, queue id, ENVID, with or without `<>`) names, oldest first.
pub fn trace<L: Lookup>(lookup: &L, id: &str) -> Result<Vec<Journey>, L::Error> {
    let id = bare_id(id);
    let mut pool = Pool::default();
    let found = lookup.by_id(id)?;
    let names =
        |r: &Record| r.queue_id.as_deref() == Some(id) || r.message_id.as_deref() == Some(id) || r.envelope_id.as_deref() == Some(id);
    let hands = |r: &Record| r.recipients.iter().any(|p| p.remote_queue_id.as_deref() == Some(id));
    let mut seeds: Vec<Record> = found.iter().filter(|r| r.role == Role::Hop && names(r)).cloned().collect();
    let witnesses: Vec<Record> = found.iter().filter(|r| r.role == Role::Witness && names(r)).cloned().collect();
    if seeds.is_empty() && witnesses.is_empty() {
        // Only the host before knows the id.
        seeds = found.iter().filter(|r| r.role == Role::Hop && hands(r)).cloned().collect();
    }
    for id in witnesses.iter().flat_map(|w| [&w.message_id, &w.orig_queue_id]).flatten() {
        seeds.extend(lookup.by_id(id)?.into_iter().filter(|r| r.role == Role::Hop));
    }
    let seed_keys: FxHashSet<String> = seeds.iter().chain(&witnesses).map(|r| r.key.clone()).collect();
    pool.grow(lookup, seeds, witnesses)?;
    pool.join();
    Ok(pool.journeys(&seed_keys))
}

#[derive(Default)]
struct Pool {
    hops: Vec<Record>,
    witnesses: Vec<Record>,
    at: FxHashMap<String, usize>,
    edges: FxHashSet<(usize, usize, By)>,
    /// Child of (record, recipient), where the hand-over names one.
    next: FxHashMap<(usize, usize), usize>,
    truncated: bool,
}

impl Pool {
    /// Fetches all that may belong: along hand-overs both ways, and by Message-ID.
    fn grow<L: Lookup>(&mut self, lookup: &L, seeds: Vec<Record>, witnesses: Vec<Record>) -> Result<(), L::Error> {
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

    fn join(&mut self) {
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
    fn witness_of<'a>(&'a self, r: &'a Record, p: &'a Recipient) -> impl Iterator<Item = &'a Record> {
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

    fn journeys(mut self, seeds: &FxHashSet<String>) -> Vec<Journey> {
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

    /// "relayed" becomes "transferred" where the next host's record follows (DESIGN 6).
    fn upgraded(&self, i: usize, r: &Record) -> Record {
        let mut r = r.clone();
        for (n, p) in r.recipients.iter_mut().enumerate() {
            if p.action == Action::Relayed && self.next.contains_key(&(i, n)) {
                p.action = Action::Transferred;
            }
        }
        r
    }

    /// How it ended for each recipient of a root, following every hand-over.
    fn endings(&self, root: usize, out: &mut Vec<Ending>) {
        let Some(r) = self.hops.get(root) else { return };
        let mut seen: Vec<&str> = Vec::new();
        for p in &r.recipients {
            if seen.iter().any(|s| same_address(s, &p.original_recipient)) {
                continue;
            }
            seen.push(&p.original_recipient);
            let mut leaves: Vec<Ending> = Vec::new();
            for (n, q) in r.recipients.iter().enumerate() {
                if same_address(&q.original_recipient, &p.original_recipient) {
                    self.follow(root, n, &mut vec![], &mut leaves);
                }
            }
            leaves = distinct(leaves);
            for leaf in &mut leaves {
                leaf.original_recipient = p.original_recipient.clone();
            }
            if leaves.len() > 1 {
                out.push(expanded(p, &leaves));
                leaves.iter_mut().for_each(|l| l.member = true);
            }
            out.append(&mut leaves);
        }
    }

    fn follow(&self, at: usize, n: usize, way: &mut Vec<usize>, out: &mut Vec<Ending>) {
        let Some(r) = self.hops.get(at) else { return };
        let Some(p) = r.recipients.get(n) else { return };
        if way.contains(&at) || way.len() > 64 {
            return;
        }
        way.push(at);
        let (p, redirected) = self.refined(r, p);
        let child = match (p.action, redirected) {
            (Action::Relayed, true) => self.redirect_of(at, &p),
            (Action::Relayed, false) => self.next.get(&(at, n)).copied(),
            _ => None,
        };
        let before = out.len();
        if let Some(to) = child {
            for m in self.matching(to, &p) {
                self.follow(to, m, way, out);
            }
        }
        if out.len() == before {
            out.push(self.leaf(r, p, child, way));
        }
        way.pop();
    }

    /// Nothing more is known than what this record (or the next one, where it lies queued) says.
    fn leaf(&self, r: &Record, mut p: Recipient, child: Option<usize>, way: &[usize]) -> Ending {
        let mut at = r.reporting_mta.clone();
        let mut path: Vec<String> = way.iter().filter_map(|&i| Some(self.hops.get(i)?.key.clone())).collect();
        if let Some(c) = child.and_then(|c| self.hops.get(c)).filter(|c| !path.contains(&c.key)) {
            at = c.reporting_mta.clone();
            path.push(c.key.clone());
            if !c.closed {
                p.action = Action::Delayed;
                p.status = "4.0.0".into();
                p.diagnostic = None;
            } else if c.remark.is_some() && c.recipients.is_empty() {
                p.diagnostic = c.remark.clone();
            }
        }
        Ending { original_recipient: p.original_recipient.clone(), last: p, at, path, member: false }
    }

    /// Which recipients of the next record are `p`: those it was made from, else those it became, else the only one.
    fn matching(&self, to: usize, p: &Recipient) -> Vec<usize> {
        let Some(c) = self.hops.get(to) else { return vec![] };
        let which = |f: &dyn Fn(&Recipient) -> bool| -> Vec<usize> {
            c.recipients.iter().enumerate().filter(|(_, q)| f(q)).map(|(i, _)| i).collect()
        };
        if let Some(to) = p.redirected_to.as_deref() {
            let hit = which(&|q| same_address(&q.original_recipient, to) || same_address(&q.final_recipient, to));
            if !hit.is_empty() {
                return hit;
            }
        }
        let tries: [&dyn Fn(&Recipient) -> bool; 3] = [
            &|q| same_address(&q.original_recipient, &p.final_recipient),
            &|q| same_address(&q.original_recipient, &p.original_recipient),
            &|q| same_address(&q.final_recipient, &p.final_recipient) || same_address(&q.final_recipient, &p.original_recipient),
        ];
        for t in tries {
            let hit = which(t);
            if !hit.is_empty() {
                return hit;
            }
        }
        // An alias with an owner is forwarded under the owner's name, and its members no longer name it.
        let forward = p.remote_mta.is_none() && p.remote_ip.is_none() && p.remote_queue_id.is_some();
        if c.recipients.len() == 1 || forward { (0..c.recipients.len()).collect() } else { vec![] }
    }

    /// The record under which a Sieve redirect went on.
    fn redirect_of(&self, at: usize, p: &Recipient) -> Option<usize> {
        let to = p.redirected_to.as_deref()?;
        let mut children = self.edges.iter().filter(|e| e.0 == at).map(|e| e.1).collect::<Vec<_>>();
        children.sort_unstable();
        children.into_iter().find(|&c| {
            self.hops.get(c).is_some_and(|c| {
                c.recipients.iter().any(|q| same_address(&q.original_recipient, to) || same_address(&q.final_recipient, to))
            })
        })
    }

    /// What witnesses add to the MTA's word: Dovecot says 250 even for what its Sieve script discarded (R9).
    fn refined(&self, r: &Record, p: &Recipient) -> (Recipient, bool) {
        let mut p = p.clone();
        if !matches!(p.action, Action::Delivered | Action::Relayed) {
            return (p, false);
        }
        if p.action == Action::Relayed && p.redirected_to.is_some() {
            return (p, true);
        }
        let original = p.clone();
        for w in self.witness_of(r, &original) {
            let who = |x: &&Recipient| {
                same_address(&x.final_recipient, &original.final_recipient)
                    || same_address(&x.final_recipient, &original.original_recipient)
            };
            let only = w.recipients.first().filter(|_| w.recipients.len() == 1 && w.queue_id == original.remote_queue_id);
            let Some(x) = w.recipients.iter().find(who).or(only) else { continue };
            p.disposition = x.disposition.clone().or(p.disposition);
            p.redirected_to = x.redirected_to.clone().or(p.redirected_to);
            let redirect = x.action == Action::Relayed && x.redirected_to.is_some();
            match x.action {
                Action::Opaque | Action::Failed => {
                    p.action = x.action;
                    p.status = x.status.clone();
                    p.diagnostic = x.diagnostic.clone().or(p.diagnostic);
                }
                Action::Relayed if redirect && original.action == Action::Delivered => {
                    p.action = Action::Relayed;
                    return (p, true);
                }
                _ => {}
            }
        }
        (p, false)
    }
}

fn expanded(p: &Recipient, leaves: &[Ending]) -> Ending {
    // The record at which the ways part is where the alias lives.
    let mut path: Vec<String> = leaves.first().map(|l| l.path.clone()).unwrap_or_default();
    for leaf in leaves {
        let common = path.iter().zip(&leaf.path).take_while(|(a, b)| a == b).count();
        path.truncate(common);
    }
    let at = path.last().and_then(|k| k.split('/').next()).unwrap_or_default().to_string();
    let last = Recipient {
        action: Action::Expanded,
        status: "2.0.0".into(),
        final_recipient: p.original_recipient.clone(),
        diagnostic: None,
        disposition: None,
        remote_mta: None,
        remote_ip: None,
        remote_queue_id: None,
        ..p.clone()
    };
    Ending { original_recipient: p.original_recipient.clone(), last, at, path, member: false }
}

/// One line for each place it ended in: two attempts at the same address are one, and of a failure and a success of it the success counts.
fn distinct(leaves: Vec<Ending>) -> Vec<Ending> {
    let mut out: Vec<Ending> = Vec::new();
    for leaf in leaves {
        match out.iter_mut().find(|o| same_address(&o.last.final_recipient, &leaf.last.final_recipient)) {
            Some(o) if o.last.action == Action::Delayed || (o.last.action == Action::Failed && leaf.last.action != Action::Delayed) => {
                *o = leaf
            }
            Some(_) => {}
            None => out.push(leaf),
        }
    }
    out
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

/// Addresses compare without case and without needless quotes.
pub fn same_address(a: &str, b: &str) -> bool {
    a == b || unquoted(a) == unquoted(b)
}

fn unquoted(a: &str) -> String {
    let a = a.to_lowercase();
    match a.rsplit_once('@') {
        Some((local, domain)) if local.len() > 1 && local.starts_with('"') && local.ends_with('"') => {
            format!("{}@{domain}", local.trim_matches('"').replace('\\', ""))
        }
        _ => a,
    }
}

fn has_recipient(c: &Record, p: &Recipient) -> bool {
    c.recipients.iter().any(|q| {
        [&q.original_recipient, &q.final_recipient]
            .iter()
            .any(|x| same_address(x, &p.final_recipient) || same_address(x, &p.original_recipient))
    })
}

/// Whether any recipient of `r` was handed to `c`; the recipient.
fn handed<'a>(r: &'a Record, c: &Record) -> Option<&'a Recipient> {
    let by_orig = c.orig_queue_id.is_some() && c.orig_queue_id == r.queue_id && same_host(&c.reporting_mta, &r.reporting_mta);
    r.recipients.iter().find(|p| by_orig || hands_over(r, p, c))
}

/// Whether `p` of `r` was handed to `c`: the id is `c`'s and the host spoken to is `c`'s host.
fn hands_over(r: &Record, p: &Recipient, c: &Record) -> bool {
    let id = p.remote_queue_id.as_deref();
    if id.is_none() || id != c.queue_id.as_deref() || matches!(p.action, Action::Failed | Action::Delayed) {
        return false;
    }
    if is_local_hop(p) {
        return same_host(&r.reporting_mta, &c.reporting_mta);
    }
    let same_mail = r.message_id.is_some() && r.message_id == c.message_id;
    names_host(p, &c.reporting_mta) || client_is(c, &r.reporting_mta) || same_mail
}

/// A forward within the MTA, or a hand-over to something on the same host.
fn is_local_hop(p: &Recipient) -> bool {
    match (p.remote_ip.as_deref(), p.remote_mta.as_deref()) {
        (None, None) => true,
        (Some(ip), _) => ip == "::1" || ip.starts_with("127."),
        (None, Some(name)) => name == "localhost",
    }
}

fn names_host(p: &Recipient, host: &str) -> bool {
    let local = is_local_hop(p) && p.remote_ip.is_some();
    !local && (p.remote_mta.as_deref().is_some_and(|n| same_host(n, host)) || p.remote_ip.as_deref() == Some(host))
}

fn client_is(c: &Record, host: &str) -> bool {
    c.client.name.as_deref().is_some_and(|n| same_host(n, host)) || c.client.ip.as_deref() == Some(host)
}

fn client_is_relay(c: &Record, p: &Recipient) -> bool {
    let name = matches!((&c.client.name, &p.remote_mta), (Some(a), Some(b)) if same_host(a, b));
    let ip = matches!((&c.client.ip, &p.remote_ip), (Some(a), Some(b)) if a == b && !a.starts_with("127."));
    name || ip
}

/// Host names compare without case; a short name matches the FQDN it begins.
pub fn same_host(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim_end_matches('.').to_lowercase(), b.trim_end_matches('.').to_lowercase());
    if a == b {
        return !a.is_empty();
    }
    let is_ip = |s: &str| s.parse::<std::net::IpAddr>().is_ok();
    if is_ip(&a) || is_ip(&b) {
        return false;
    }
    let short_of = |s: &str, l: &str| !s.is_empty() && !s.contains('.') && l.strip_prefix(s).is_some_and(|rest| rest.starts_with('.'));
    short_of(&a, &b) || short_of(&b, &a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_addresses_compare_as_people_mean_them() {
        assert!(same_host("store", "store.example.test"));
        assert!(same_host("MX1.example.test", "mx1.example.test"));
        assert!(!same_host("store", "store2.example.test"));
        assert!(!same_host("192.0.2.1", "192"));
        assert!(!same_host("", ""));
        assert!(same_address("\"ok quoted\"@x.test", "ok quoted@X.test"));
        assert!(!same_address("a@b", "a@c"));
    }
}
