//! Look-ups within a pool of records, so that a message to tens of thousands of recipients is joined in one pass.

use super::evidence::{folded, handed_back, hands_over, names_host, same_host};
use super::{LIKENESS_WINDOW, MAX_RECORDS, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record};
use crate::model::time::SECOND;
use rustc_hash::{FxHashMap, FxHashSet};

/// Which hops have, handed on, or came from which ids. Numbers are places in the pool's list of hops.
#[derive(Default)]
pub(super) struct Ids {
    own: FxHashMap<String, Vec<usize>>,
    remote: FxHashMap<String, Vec<(usize, usize)>>,
    orig: FxHashMap<String, Vec<usize>>,
    mails: FxHashSet<String>,
}

impl Ids {
    /// The ids of all hops.
    pub(super) fn of(hops: &[Record]) -> Self {
        let mut ids = Ids::default();
        hops.iter().enumerate().for_each(|(i, r)| ids.add(i, r));
        ids
    }

    /// Adds the hop that stands at `i`.
    pub(super) fn add(&mut self, i: usize, r: &Record) {
        for id in [&r.queue_id, &r.reply_id].into_iter().flatten() {
            self.own.entry(id.clone()).or_default().push(i);
        }
        for (n, p) in r.recipients.iter().enumerate() {
            if let Some(id) = &p.remote_queue_id {
                self.remote.entry(id.clone()).or_default().push((i, n));
            }
        }
        if let Some(id) = &r.orig_queue_id {
            self.orig.entry(id.clone()).or_default().push(i);
        }
        self.mails.extend(r.message_id.clone());
    }

    /// Hops with this queue id.
    pub(super) fn own(&self, id: &str) -> &[usize] {
        self.own.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether `r` has to do with one of the hops: a hand-over either way, or the same Message-ID.
    pub(super) fn concerns(&self, hops: &[Record], r: &Record) -> bool {
        let hop = |i: &usize| hops.get(*i);
        let same_mail = r.message_id.as_ref().is_some_and(|m| self.mails.contains(m));
        let taken = || {
            let from = [&r.queue_id, &r.reply_id].into_iter().flatten().filter_map(|q| self.remote.get(q)).flatten();
            from.filter_map(|(i, n)| Some((hop(i)?, hop(i)?.recipients.get(*n)?))).any(|(h, p)| hands_over(h, p, r))
        };
        let given = || {
            r.recipients
                .iter()
                .any(|p| p.remote_queue_id.as_ref().is_some_and(|q| self.own(q).iter().filter_map(hop).any(|h| hands_over(r, p, h))))
        };
        let came = || r.orig_queue_id.as_ref().is_some_and(|q| self.own(q).iter().filter_map(hop).any(|h| handed_back(h, r)));
        let went = || r.queue_id.as_ref().and_then(|q| self.orig.get(q)).into_iter().flatten().filter_map(hop).any(|h| handed_back(r, h));
        same_mail || taken() || given() || came() || went()
    }
}

/// Places of a hop's recipients by address, folded as [`folded`] does.
pub(super) struct Names {
    original: FxHashMap<String, Vec<usize>>,
    last: FxHashMap<String, Vec<usize>>,
}

impl Names {
    /// The names of a hop's recipients.
    pub(super) fn of(r: &Record) -> Self {
        let mut names = Names { original: FxHashMap::default(), last: FxHashMap::default() };
        for (n, p) in r.recipients.iter().enumerate() {
            names.original.entry(folded(&p.original_recipient)).or_default().push(n);
            names.last.entry(folded(&p.final_recipient)).or_default().push(n);
        }
        names
    }

    /// Recipients that were addressed so.
    pub(super) fn original(&self, address: &str) -> &[usize] {
        self.original.get(&folded(address)).map_or(&[], Vec::as_slice)
    }

    /// Recipients that became so.
    pub(super) fn last(&self, address: &str) -> &[usize] {
        self.last.get(&folded(address)).map_or(&[], Vec::as_slice)
    }

    /// Every address, folded; one may come twice.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.original.keys().chain(self.last.keys()).map(String::as_str)
    }

    /// Whether any recipient has this address, before or after aliases.
    pub(super) fn has(&self, address: &str) -> bool {
        !self.original(address).is_empty() || !self.last(address).is_empty()
    }

    /// Whether any recipient is `p`, before or after aliases.
    pub(super) fn has_recipient(&self, p: &Recipient) -> bool {
        self.has(&p.final_recipient) || self.has(&p.original_recipient)
    }
}

/// Records of programs that are no MTA, by what joins them to a hop.
#[derive(Default)]
pub(super) struct Witnesses {
    list: Vec<Record>,
    session: FxHashMap<String, Vec<usize>>,
    filter: FxHashMap<String, Vec<usize>>,
    /// By Message-ID and address.
    mail: FxHashMap<(String, String), Vec<usize>>,
    /// By Message-ID: those that speak of the mail as a whole, naming neither a queue id nor recipients (spamd).
    whole: FxHashMap<String, Vec<usize>>,
}

impl Witnesses {
    /// Witnesses in order of time.
    pub(super) fn of(mut list: Vec<Record>) -> Self {
        list.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
        list.truncate(MAX_RECORDS);
        let mut all = Witnesses::default();
        for (i, w) in list.iter().enumerate() {
            if let Some(id) = &w.queue_id {
                all.session.entry(id.clone()).or_default().push(i);
            }
            if let Some(id) = &w.orig_queue_id {
                all.filter.entry(id.clone()).or_default().push(i);
            }
            if let Some(id) = w.message_id.as_ref().filter(|_| w.recipients.is_empty() && w.orig_queue_id.is_none()) {
                all.whole.entry(id.clone()).or_default().push(i);
            }
            for (id, p) in w.message_id.iter().flat_map(|id| w.recipients.iter().map(move |p| (id, p))) {
                let places = all.mail.entry((id.clone(), folded(&p.final_recipient))).or_default();
                if places.last() != Some(&i) {
                    places.push(i);
                }
            }
        }
        all.list = list;
        all
    }

    /// All of them.
    pub(super) fn list(&self) -> &[Record] {
        &self.list
    }

    /// Those that speak of a recipient of a hop, as places in the list: its session, its queue id, or, for a delivery
    /// agent behind a pipe (which logs no id of the MTA's), its Message-ID and address.
    pub(super) fn of_recipient(&self, r: &Record, p: &Recipient) -> Vec<usize> {
        let get =
            |map: &FxHashMap<String, Vec<usize>>, id: &Option<String>| id.as_ref().and_then(|id| map.get(id)).cloned().unwrap_or_default();
        let mut out = get(&self.filter, &r.queue_id);
        // A session's id is its recipient's own; the mailbox behind an address may have another name (sub-addressing).
        let named = |i: &usize| self.list.get(*i).is_some_and(|w| said_of(w, p).is_some());
        out.extend(get(&self.session, &p.remote_queue_id).into_iter().filter(named));
        let soon = |i: &usize| {
            let w = self.list.get(*i).map_or(i64::MIN, |w| w.arrival_date.micros);
            w.abs_diff(r.arrival_date.micros) <= LIKENESS_WINDOW.unsigned_abs()
        };
        out.extend(get(&self.whole, &r.message_id).into_iter().filter(soon));
        let behind_pipe = p.remote_queue_id.is_none() && p.action == Action::Delivered;
        if let Some(id) = r.message_id.as_ref().filter(|_| behind_pipe) {
            out.extend(self.nearest_by_mail(id, r, p));
        }
        out.sort_unstable();
        out.dedup();
        out.retain(|i| self.near(*i, r, p));
        out
    }

    /// Witnesses of a Message-ID and one of the recipient's names: one mail can come twice, so only those nearest to the
    /// attempt in time, and what was said within a second of them.
    fn nearest_by_mail<'a>(&'a self, id: &str, r: &'a Record, p: &'a Recipient) -> impl Iterator<Item = usize> + 'a {
        let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
        let mut names = vec![folded(&p.final_recipient), folded(&p.original_recipient)];
        // A mailbox may be called without its domain (Cyrus).
        let local: Vec<String> = names.iter().filter_map(|n| Some(n.rsplit_once('@')?.0.to_string())).collect();
        names.extend(local);
        names.sort_unstable();
        names.dedup();
        let all: Vec<usize> = names.into_iter().filter_map(|name| self.mail.get(&(id.to_string(), name))).flatten().copied().collect();
        let apart = move |i: &usize| self.list.get(*i).map_or(i64::MAX, |w| (w.arrival_date.micros - when).abs());
        let nearest = all.iter().copied().filter(|i| self.near(*i, r, p)).map(|i| apart(&i)).min().unwrap_or(0);
        all.into_iter().filter(move |i| apart(i) <= nearest + SECOND)
    }

    /// [`Witnesses::of_recipient`], and those that tell of an attempt that came to nothing: its reply names no session, so
    /// that only Message-ID, address, host and time speak for it.
    pub(super) fn about(&self, r: &Record, p: &Recipient) -> Vec<usize> {
        let mut out = self.of_recipient(r, p);
        let Some(id) = r.message_id.as_ref().filter(|_| p.attempts > 0 && p.action != Action::Relayed) else { return out };
        for name in [folded(&p.final_recipient), folded(&p.original_recipient)] {
            let vain = |i: &&usize| {
                let Some(w) = self.list.get(**i) else { return false };
                let soon = w.arrival_date.micros >= r.arrival_date.micros - LIKENESS_WINDOW
                    && w.arrival_date.micros <= r.last_event_date.micros + LIKENESS_WINDOW;
                let failed = said_by_name(w, p).is_some_and(|x| matches!(x.action, Action::Failed | Action::Delayed));
                soon && failed && same_host(&w.reporting_mta, &r.reporting_mta)
            };
            out.extend(self.mail.get(&(id.clone(), name)).into_iter().flatten().filter(vain));
        }
        out.sort_unstable();
        out.dedup();
        out
    }

    fn near(&self, i: usize, r: &Record, p: &Recipient) -> bool {
        let Some(w) = self.list.get(i) else { return false };
        let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
        // The id of a delivery session and the Message-ID together need no host: it may be known here by its address only.
        let session = w.queue_id.is_some() && w.queue_id == p.remote_queue_id;
        let same_mail = session && w.message_id.is_some() && w.message_id == r.message_id;
        let host = || same_mail || same_host(&w.reporting_mta, &r.reporting_mta) || names_host(p, &w.reporting_mta);
        (w.arrival_date.micros - when).abs() <= PROOF_WINDOW && host()
    }
}

fn said_by_name<'a>(w: &'a Record, p: &Recipient) -> Option<&'a Recipient> {
    let (last, original) = (folded(&p.final_recipient), folded(&p.original_recipient));
    // A mailbox may be called without its domain (Cyrus).
    let mailbox = |name: &str, of: &str| !name.contains('@') && of.rsplit_once('@').is_some_and(|(local, _)| local == name);
    w.recipients.iter().find(|x| {
        let name = folded(&x.final_recipient);
        name == last || name == original || mailbox(&name, &last) || mailbox(&name, &original)
    })
}

/// What a witness says of a recipient: of its address, or of the only one it speaks of.
pub(super) fn said_of<'a>(w: &'a Record, p: &Recipient) -> Option<&'a Recipient> {
    let only = || w.recipients.first().filter(|_| w.recipients.len() == 1 && w.queue_id.is_some() && w.queue_id == p.remote_queue_id);
    said_by_name(w, p).or_else(only)
}
