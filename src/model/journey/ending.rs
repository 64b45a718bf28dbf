//! How it ended: every recipient of a root followed over every hand-over to the last record that knows it.

use super::Ending;
use super::evidence::{folded, requeued};
use super::index::said_of;
use super::pool::Pool;
use crate::model::event::Action;
use crate::model::record::{Recipient, Record};
use rustc_hash::{FxHashMap, FxHashSet};

impl Pool {
    /// "relayed" becomes "transferred" where the next host's record follows.
    pub(super) fn upgraded(&self, i: usize, r: &Record) -> Record {
        let mut r = r.clone();
        for (n, p) in r.recipients.iter_mut().enumerate() {
            if p.action == Action::Relayed && self.next.contains_key(&(i, n)) {
                p.action = Action::Transferred;
            }
        }
        r
    }

    /// How it ended for each recipient of a root, following every hand-over. A message that was requeued under a new id
    /// may have recipients that the old id's log never named: those of the new one that the old one does not know.
    pub(super) fn endings(&self, root: usize, out: &mut Vec<Ending>) {
        let mut seen: FxHashSet<String> = FxHashSet::default();
        let mut todo = vec![vec![root]];
        while let Some(way) = todo.pop() {
            let Some((&at, before)) = way.split_last() else { continue };
            let (Some(r), Some(names)) = (self.hops.get(at), self.names.get(at)) else { continue };
            for p in &r.recipients {
                if seen.insert(folded(&p.original_recipient)) {
                    let mut leaves: Vec<Ending> = Vec::new();
                    for &n in names.original(&p.original_recipient) {
                        self.follow(at, n, &mut before.to_vec(), &mut leaves);
                    }
                    take_leaves(p, leaves, out);
                }
            }
            seen.extend(r.recipients.iter().map(|p| folded(&p.final_recipient)));
            let again = |c: &usize| !way.contains(c) && self.hops.get(*c).is_some_and(|c| requeued(r, c));
            let mut children: Vec<usize> = self.edges.iter().filter(|e| e.0 == at).map(|e| e.1).filter(again).collect();
            children.sort_unstable();
            todo.extend(children.into_iter().map(|c| [way.as_slice(), &[c]].concat()));
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
            // A content filter spoken to by LMTP delivered the mail and gave it back under the id it named; what was
            // requeued went on though it was not handed over.
            (Action::Relayed | Action::Delivered | Action::Delayed, false) => self.next.get(&(at, n)).copied(),
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
        let (Some(c), Some(names)) = (self.hops.get(to), self.names.get(to)) else { return vec![] };
        let either = |a: &[usize], b: &[usize]| {
            let mut all = [a, b].concat();
            all.sort_unstable();
            all.dedup();
            all
        };
        if let Some(to) = p.redirected_to.as_deref() {
            let hit = either(names.original(to), names.last(to));
            if !hit.is_empty() {
                return hit;
            }
        }
        for made_from in [&p.final_recipient, &p.original_recipient] {
            if !names.original(made_from).is_empty() {
                return names.original(made_from).to_vec();
            }
        }
        let became = either(names.last(&p.final_recipient), names.last(&p.original_recipient));
        if !became.is_empty() {
            return became;
        }
        // An alias with an owner is forwarded under the owner's name, and its members no longer name it.
        let forward = p.remote_mta.is_none() && p.remote_ip.is_none() && p.remote_queue_id.is_some();
        let only = c.recipients.len() == 1 && c.recipient_count.unwrap_or(1) == 1;
        if only || forward { (0..c.recipients.len()).collect() } else { vec![] }
    }

    /// The record under which a Sieve redirect went on.
    fn redirect_of(&self, at: usize, p: &Recipient) -> Option<usize> {
        let to = p.redirected_to.as_deref()?;
        let mut children = self.edges.iter().filter(|e| e.0 == at).map(|e| e.1).collect::<Vec<_>>();
        children.sort_unstable();
        children.into_iter().find(|&c| self.names.get(c).is_some_and(|names| names.has(to)))
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
        for i in self.witnesses.of_recipient(r, &original) {
            let Some(x) = self.witnesses.list().get(i).and_then(|w| said_of(w, &original)) else { continue };
            p.disposition = x.disposition.clone().or(p.disposition);
            p.redirected_to = x.redirected_to.clone().or(p.redirected_to);
            let redirect = x.action == Action::Relayed && x.redirected_to.is_some();
            match x.action {
                Action::Opaque | Action::Failed => {
                    p.action = x.action;
                    p.status = x.status.clone();
                    // The MTA's "250 Saved" would say the opposite.
                    p.diagnostic = x.diagnostic.clone();
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

/// What became of one recipient of a root: several ways are an expansion and its members.
fn take_leaves(p: &Recipient, leaves: Vec<Ending>, out: &mut Vec<Ending>) {
    let mut leaves = distinct(leaves);
    for leaf in &mut leaves {
        leaf.original_recipient = p.original_recipient.clone();
    }
    if leaves.len() > 1 {
        out.push(expanded(p, &leaves));
        leaves.iter_mut().for_each(|l| l.member = true);
    }
    out.append(&mut leaves);
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
        reported: Vec::new(),
        ..p.clone()
    };
    Ending { original_recipient: p.original_recipient.clone(), last, at, path, member: false }
}

/// One line for each place it ended in: two attempts at the same address are one, and of a failure and a success of it the success counts.
fn distinct(leaves: Vec<Ending>) -> Vec<Ending> {
    let mut out: Vec<Ending> = Vec::new();
    let mut places: FxHashMap<String, usize> = FxHashMap::default();
    for leaf in leaves {
        let place = *places.entry(folded(&leaf.last.final_recipient)).or_insert(out.len());
        match out.get_mut(place) {
            Some(o) if o.last.action == Action::Delayed || (o.last.action == Action::Failed && leaf.last.action != Action::Delayed) => {
                *o = leaf
            }
            Some(_) => {}
            None => out.push(leaf),
        }
    }
    out
}
