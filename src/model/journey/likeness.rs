//! Joining by likeness: where no reply names a queue id, records of one Message-ID are joined when the one handed a
//! common recipient to the other's host within a short while.

use super::evidence::{client_is, client_is_relay, folded, names_host, same_host};
use super::index::{Names, Witnesses};
use super::pool::{HandOver, Pool};
use super::{By, LIKENESS_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record};
use rustc_hash::{FxHashMap, FxHashSet};

/// What may tie a hop to the next one of its mail: a recipient that was handed on, or an address that it was redirected to.
struct Tie {
    /// Microseconds.
    when: i64,
    /// Place in the list of hops.
    from: usize,
    how: How,
}

enum How {
    /// The hop's recipient of this number was handed to another host.
    Relayed(usize),
    /// A delivery agent of this host redirected it.
    Redirected(String),
}

/// All ties by Message-ID and address, in order of time.
#[derive(Default)]
struct Ties {
    mails: FxHashMap<String, usize>,
    by_address: FxHashMap<(usize, String), Vec<Tie>>,
}

impl Ties {
    fn of(hops: &[Record], witnesses: &Witnesses) -> Self {
        let mut ties = Ties::default();
        for (from, p) in hops.iter().enumerate() {
            let Some(id) = &p.message_id else { continue };
            let next = ties.mails.len();
            let mail = *ties.mails.entry(id.clone()).or_insert(next);
            for (n, x) in p.recipients.iter().enumerate() {
                if x.action == Action::Relayed {
                    let when = x.last_attempt_date.unwrap_or(p.last_event_date).micros;
                    let names: FxHashSet<String> = [&x.final_recipient, &x.original_recipient].into_iter().map(|a| folded(a)).collect();
                    for name in names {
                        ties.add(mail, name, Tie { when, from, how: How::Relayed(n) });
                    }
                }
                ties.redirected(mail, from, p, x);
                for w in witnesses.of_recipient(p, x).into_iter().filter_map(|i| witnesses.list().get(i)) {
                    w.recipients.iter().for_each(|y| ties.redirected(mail, from, w, y));
                }
            }
        }
        ties.by_address.values_mut().for_each(|ties| ties.sort_by_key(|t| t.when));
        ties
    }

    fn redirected(&mut self, mail: usize, from: usize, said: &Record, x: &Recipient) {
        if let Some(to) = &x.redirected_to {
            let how = How::Redirected(said.reporting_mta.clone());
            self.add(mail, folded(to), Tie { when: said.last_event_date.micros, from, how });
        }
    }

    fn add(&mut self, mail: usize, address: String, tie: Tie) {
        self.by_address.entry((mail, address)).or_default().push(tie);
    }

    /// Ties to a hop with these names, within the window.
    fn to<'a>(&'a self, c: &'a Record, names: &'a Names) -> impl Iterator<Item = &'a Tie> + 'a {
        let mail = c.message_id.as_ref().and_then(|id| self.mails.get(id));
        let at = c.arrival_date.micros;
        let near = move |name: &str| -> &'a [Tie] {
            let Some(all) = mail.and_then(|mail| self.by_address.get(&(*mail, name.to_string()))) else { return &[] };
            let first = all.partition_point(|t| t.when < at - LIKENESS_WINDOW);
            let end = all.partition_point(|t| t.when <= at + LIKENESS_WINDOW);
            all.get(first..end).unwrap_or_default()
        };
        names.all().flat_map(near)
    }
}

/// Who handed on to whom.
struct Ways {
    children: Vec<Vec<usize>>,
    has_parent: Vec<bool>,
}

impl Ways {
    fn of<'a>(hops: usize, edges: impl Iterator<Item = &'a HandOver>) -> Self {
        let mut ways = Ways { children: vec![vec![]; hops], has_parent: vec![false; hops] };
        edges.for_each(|(from, to, _)| ways.add(*from, *to));
        ways
    }

    fn add(&mut self, from: usize, to: usize) {
        if let (Some(children), Some(has)) = (self.children.get_mut(from), self.has_parent.get_mut(to)) {
            children.push(to);
            *has = true;
        }
    }

    /// Whether there is a way from `a` to `b`: an edge back would make a loop.
    fn reaches(&self, a: usize, b: usize) -> bool {
        let (mut seen, mut todo) = (FxHashSet::default(), vec![a]);
        while let Some(n) = todo.pop() {
            if n == b {
                return true;
            }
            if seen.insert(n) {
                todo.extend(self.children.get(n).into_iter().flatten());
            }
        }
        false
    }
}

impl Pool {
    /// Gives each hop that came from nowhere yet the nearest one that looks like the hop before it.
    pub(super) fn join_by_message_id(&mut self) {
        let ties = Ties::of(&self.hops, &self.witnesses);
        let mut ways = Ways::of(self.hops.len(), self.edges.iter());
        for to in 0..self.hops.len() {
            if ways.has_parent.get(to) != Some(&false) {
                continue;
            }
            let (Some(c), Some(names)) = (self.hops.get(to), self.names.get(to)) else { continue };
            let mut best: Option<(i64, usize)> = None;
            for tie in ties.to(c, names) {
                let Some(p) = self.hops.get(tie.from) else { continue };
                let place = ((c.arrival_date.micros - p.last_event_date.micros).abs(), tie.from);
                let nearer = tie.from != to && best.is_none_or(|b| place < b);
                if nearer && self.holds(tie, p, c) && !ways.reaches(to, tie.from) {
                    best = Some(place);
                }
            }
            if let Some((_, from)) = best {
                self.edges.insert((from, to, By::MessageId));
                ways.add(from, to);
                self.fill_next(from, to);
            }
        }
    }

    /// Whether a tie leads to the host of `c`, and no hand-over took it already.
    fn holds(&self, tie: &Tie, p: &Record, c: &Record) -> bool {
        match &tie.how {
            How::Redirected(host) => same_host(host, &c.reporting_mta),
            How::Relayed(n) => {
                let Some(x) = p.recipients.get(*n).filter(|_| !self.next.contains_key(&(tie.from, *n))) else { return false };
                names_host(x, &c.reporting_mta) || client_is(c, &p.reporting_mta) || client_is_relay(c, x)
            }
        }
    }
}

#[cfg(test)]
mod tests;
