//! Look-ups within a pool of records, so that a message to tens of thousands of recipients is joined in one pass.

use super::evidence::{folded, handed_back, hands_over, names_host, same_host};
use super::{LIKENESS_WINDOW, MAX_RECORDS, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record};
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
    mail: FxHashMap<String, Vec<usize>>,
}

impl Witnesses {
    /// Witnesses in order of time.
    pub(super) fn of(mut list: Vec<Record>) -> Self {
        list.sort_by(|a, b| (a.arrival_date.micros, &a.key).cmp(&(b.arrival_date.micros, &b.key)));
        list.truncate(MAX_RECORDS);
        let mut all = Witnesses::default();
        for (i, w) in list.iter().enumerate() {
            let mut put = |map: fn(&mut Witnesses) -> &mut FxHashMap<String, Vec<usize>>, id: &Option<String>| {
                if let Some(id) = id {
                    map(&mut all).entry(id.clone()).or_default().push(i);
                }
            };
            put(|a| &mut a.session, &w.queue_id);
            put(|a| &mut a.filter, &w.orig_queue_id);
            put(|a| &mut a.mail, &w.message_id);
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
        let session = get(&self.session, &p.remote_queue_id);
        let filter = get(&self.filter, &r.queue_id);
        let behind_pipe = p.remote_queue_id.is_none() && p.action == Action::Delivered;
        let of_mail = get(&self.mail, &r.message_id);
        // A filter that logs neither a queue id nor recipients (spamd) speaks of the mail as a whole.
        let whole = |i: &usize| self.list.get(*i).is_some_and(|w| w.recipients.is_empty() && w.orig_queue_id.is_none());
        let soon = |i: &usize| {
            let w = self.list.get(*i).map_or(i64::MIN, |w| w.arrival_date.micros);
            w.abs_diff(r.arrival_date.micros) <= LIKENESS_WINDOW.unsigned_abs()
        };
        let whole = of_mail.iter().copied().filter(whole).filter(|i| soon(i) && self.near(*i, r, p));
        let mut out: Vec<usize> = filter.into_iter().filter(|i| self.near(*i, r, p)).chain(whole).collect();
        let mail = if behind_pipe { of_mail.clone() } else { vec![] };
        for (by_session, i) in session.into_iter().map(|i| (true, i)).chain(mail.into_iter().map(|i| (false, i))) {
            let Some(w) = self.list.get(i) else { continue };
            // A session's id is its recipient's own; the mailbox behind an address may have another name (sub-addressing).
            let named = said_of(w, p).is_some() && (by_session || said_by_name(w, p).is_some());
            if named && self.near(i, r, p) && !out.contains(&i) {
                out.push(i);
            }
        }
        out.sort_unstable();
        out
    }

    fn near(&self, i: usize, r: &Record, p: &Recipient) -> bool {
        let Some(w) = self.list.get(i) else { return false };
        let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
        let host = same_host(&w.reporting_mta, &r.reporting_mta) || names_host(p, &w.reporting_mta);
        host && (w.arrival_date.micros - when).abs() <= PROOF_WINDOW
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
