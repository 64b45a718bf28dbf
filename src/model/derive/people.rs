//! What became of each recipient, event by event.

use super::{is_gateway, stamp};
use crate::model::event::{Action, Event, Field, Kind};
use crate::model::record::{Recipient, Record, Role, Stamp};
use crate::model::status::status_of;
use rustc_hash::{FxHashMap, FxHashSet};

#[derive(Default)]
pub(super) struct People {
    pub(super) list: Vec<Recipient>,
    /// Recipients that the client named, where the MTA logs them at arrival.
    named: Vec<String>,
    /// Names that a decision about the whole message gave: the client's words, before aliases. Folded.
    decided: FxHashSet<String>,
    /// Recipients that an SMTP gateway saw. The MTA may have made others of them without a word.
    gateway: Vec<String>,
    /// Recipients whose latest word is a deferral that names them, by place in `list`.
    put_off: FxHashSet<usize>,
    by_name: FxHashMap<(String, String), usize>,
}

fn fold(address: &str) -> String {
    address.to_lowercase()
}

/// So many recipients are looked through; more are found by a table of names.
const FEW: usize = 8;

/// Whether two addresses are the same when folded.
fn alike(a: &str, b: &str) -> bool {
    if a.is_ascii() && b.is_ascii() { a.eq_ignore_ascii_case(b) } else { fold(a) == fold(b) }
}

impl People {
    /// Whose line it is. Names differ by more than case.
    fn position(&mut self, original: &str, last: &str) -> Option<usize> {
        if self.list.len() <= FEW {
            return self.list.iter().position(|p| alike(&p.original_recipient, original) && alike(&p.final_recipient, last));
        }
        for (n, p) in self.list.iter().enumerate().skip(self.by_name.len()) {
            self.by_name.insert((fold(&p.original_recipient), fold(&p.final_recipient)), n);
        }
        self.by_name.get(&(fold(original), fold(last))).copied()
    }

    /// The place in the list of a recipient's line; a new one, if there is none.
    fn entry(&mut self, original: String, last: String) -> usize {
        self.position(&original, &last).unwrap_or_else(|| {
            self.list.push(Recipient::untried(original, last));
            self.list.len() - 1
        })
    }

    pub(super) fn addressed(&mut self, e: &Event) {
        if let Some(list) = e.text(Field::Recipients) {
            let names = if is_gateway(e) { &mut self.gateway } else { &mut self.named };
            names.extend(split_addresses(&list));
        }
        // What the queue manager takes up is no longer held, whether or not a line says who released it.
        if e.get(Field::RecipientCount).is_some() {
            for p in self.list.iter_mut().filter(|p| p.action == Action::Delayed) {
                p.disposition = None;
            }
        }
    }

    /// Recipients of the envelope that no attempt spoke of yet get a line of their own: queued, never tried.
    fn untried(&mut self) {
        let named = std::mem::take(&mut self.named);
        if named.is_empty() {
            return;
        }
        let folded = crate::model::journey::folded;
        let mut known: FxHashSet<String> =
            self.list.iter().flat_map(|p| [folded(&p.original_recipient), folded(&p.final_recipient)]).collect();
        for name in named {
            if known.insert(folded(&name)) {
                self.entry(name.clone(), name);
            }
        }
    }

    /// One recipient's attempt; the latest one decides, but nothing takes back an end once reached.
    pub(super) fn attempt(&mut self, e: &Event, role: Role) {
        if e.head.action.is_none() && role == Role::Hop {
            return;
        }
        let named: Vec<String> = match (e.text(Field::FinalRecipient), e.text(Field::Recipients)) {
            (None, None) if e.get(Field::Domain).is_some() => return self.attempt_of_domain(e),
            (Some(one), _) => vec![one],
            (None, Some(list)) => split_addresses(&list),
            // A refusal that names no recipient (MAIL, DATA, the size) has one line all the same: it failed, and why.
            (None, None) if role == Role::Reject => vec![String::new()],
            (None, None) => vec![],
        };
        for last in named {
            let original = e.text(Field::OriginalRecipient).or_else(|| e.text(Field::Parent)).filter(|o| !o.is_empty());
            let (original, last) = name_pair(original, last);
            let at = self.entry(original, last);
            if let Some(r) = self.list.get_mut(at) {
                update(r, e);
                if e.head.action == Some(Action::Delayed) {
                    self.put_off.insert(at)
                } else {
                    self.put_off.remove(&at)
                };
            }
        }
    }

    /// An attempt that names no recipient but a domain ([`Field::Domain`]). With a result of `others` it leaves out those
    /// that a line of their own put off last.
    fn attempt_of_domain(&mut self, e: &Event) {
        self.untried();
        let domain_of = |p: &Recipient| fold(p.original_recipient.rsplit_once('@').map_or("", |(_, d)| d));
        let domain = match e.text(Field::Domain).unwrap_or_default() {
            none if none.is_empty() => {
                let left: FxHashSet<String> = self.list.iter().filter(|p| p.action == Action::Delayed).map(domain_of).collect();
                if left.len() > 1 {
                    return;
                }
                "*".to_string()
            }
            named => fold(&named),
        };
        let others = e.get(Field::Result) == Some(b"others");
        for (at, p) in self.list.iter_mut().enumerate().filter(|(_, p)| p.action == Action::Delayed) {
            if (domain == "*" || domain == domain_of(p)) && !(others && self.put_off.contains(&at)) {
                update(p, e);
                self.put_off.remove(&at);
            }
        }
    }

    /// A notice that names recipients: the attempt at them is over, and they wait for the next one.
    pub(super) fn wait(&mut self, e: &Event) {
        let Some(list) = e.text(Field::Recipients) else { return };
        let names: FxHashSet<String> = split_addresses(&list).iter().map(|a| fold(a)).collect();
        let named = |p: Option<&Recipient>| p.is_some_and(|p| names.contains(&fold(&p.final_recipient)));
        self.put_off.retain(|at| !named(self.list.get(*at)));
    }

    /// What a notification claims about one recipient, as it claims it; of two copies the later one stands.
    pub(super) fn claim(&mut self, e: &Event) {
        let Some(last) = e.text(Field::FinalRecipient) else { return };
        let (original, last) = name_pair(e.text(Field::OriginalRecipient).filter(|o| !o.is_empty()), last);
        let at = self.entry(original, last);
        let Some(r) = self.list.get_mut(at) else { return };
        let seconds = |f| e.text(f).and_then(|v| v.parse::<i64>().ok()).and_then(|s| s.checked_mul(crate::model::time::SECOND));
        let at = |micros| Stamp { micros, precision: crate::model::time::Precision::Second };
        r.source = "dsn";
        r.action = e.head.action.unwrap_or(Action::Opaque);
        r.status = e.text(Field::Status).unwrap_or_default();
        r.remote_mta = e.text(Field::RemoteMta);
        r.remote_ip = e.text(Field::RemoteIp);
        r.diagnostic = e.text(Field::Diagnostic);
        r.disposition = e.text(Field::Disposition);
        r.reason = e.text(Field::Reason);
        r.confidence = e.text(Field::Confidence);
        r.status_from = e.text(Field::StatusFrom);
        r.will_retry_until = seconds(Field::WillRetryUntil).map(at);
        r.last_attempt_date = Some(seconds(Field::LastAttemptDate).map_or_else(|| stamp(e), at));
    }

    /// A decision about the message as a whole ends every recipient that has not ended, or the one it names.
    pub(super) fn decision(&mut self, e: &Event, r: &mut Record) {
        let remark: Vec<String> = [e.text(Field::Result), said(e)].into_iter().flatten().collect();
        if !remark.is_empty() {
            r.remark = Some(remark.join(": "));
        }
        if let Some(named) = e.text(Field::NamedRecipient).filter(|n| !n.is_empty()) {
            self.decided.insert(fold(&named));
            self.entry(named.clone(), named);
        }
        self.untried();
        for p in self.list.iter_mut().filter(|p| p.action == Action::Delayed) {
            decide(p, e);
        }
    }

    /// What needs all events. A name that only a decision gave is no recipient beside what it became: when the
    /// message went on after all, the attempts name those.
    pub(super) fn settle(&mut self, r: &mut Record) {
        // A message that left the queue ended for all its recipients: one that no line speaks of became another.
        if !r.closed || self.list.is_empty() {
            self.named.append(&mut self.gateway);
        }
        self.untried();
        if self.decided.is_empty() {
            return;
        }
        let tried: FxHashSet<String> = self.list.iter().filter(|p| p.attempts > 0).map(|p| fold(&p.original_recipient)).collect();
        self.list.retain(|p| {
            let name = fold(&p.original_recipient);
            let gone = tried.contains(&name) || (r.closed && p.action == Action::Delayed && !tried.is_empty());
            p.attempts > 0 || !self.decided.contains(&name) || !gone
        });
    }
}

/// The address as the client named it, and after aliases. An MTA that logs a mailbox's bare name beside its
/// address (`u1 <u1@host>`), or the same address in quotes or another case, names one recipient, not an alias.
pub(super) fn name_pair(original: Option<String>, last: String) -> (String, String) {
    match original {
        None => (last.clone(), last),
        Some(original) => {
            let local = original.rsplit_once('@').map_or(original.as_str(), |(l, _)| l).trim_matches('"');
            let same = !last.contains('@') && fold(local) == fold(last.trim_matches('"'));
            if same { (original.clone(), original) } else { (original, last) }
        }
    }
}

/// `<a@b>,<c@d>` to its addresses.
pub(super) fn split_addresses(list: &str) -> Vec<String> {
    let mut out = Vec::new();
    let (mut current, mut quoted, mut inside) = (String::new(), false, false);
    let mut chars = list.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => current.extend([Some(c), chars.next()].into_iter().flatten()),
            '"' => {
                quoted = !quoted;
                current.push(c);
            }
            '<' if !quoted => inside = true,
            '>' if !quoted => {
                inside = false;
                out.push(std::mem::take(&mut current));
            }
            ',' | ' ' if !quoted && !inside => {
                if !current.is_empty() {
                    out.push(std::mem::take(&mut current));
                }
            }
            _ => current.push(c),
        }
    }
    if !current.is_empty() {
        out.push(current);
    }
    out
}

/// A witness tells of one mail in several lines (stored, redirected as well): which one counts in the end.
fn weight(a: Action) -> u8 {
    match a {
        Action::Delivered => 4,
        Action::Relayed => 3,
        Action::Failed => 2,
        Action::Opaque => 1,
        _ => 0,
    }
}

/// One attempt's word on a recipient.
fn update(r: &mut Recipient, e: &Event) {
    if let Some(to) = e.text(Field::RedirectedTo) {
        r.redirected_to = Some(to);
    }
    let first = r.attempts == 0;
    let ended = |a| matches!(a, Action::Delivered | Action::Relayed | Action::Expanded);
    if e.head.kind == Kind::Attempt && ended(r.action) && !first && e.head.action == Some(Action::Delayed) {
        return;
    }
    match e.get(Field::Result) {
        Some(b"waiting") => return passed_over(r, e),
        Some(b"expired") if e.head.action == Some(Action::Failed) => return expire(r, e),
        _ => {}
    }
    // A witness tells of one mail in several lines.
    r.attempts = if e.head.kind == Kind::Witness { 1 } else { r.attempts + 1 };
    if e.head.kind == Kind::Witness && !first && e.head.action.is_none_or(|a| weight(a) < weight(r.action)) {
        return;
    }
    r.last_attempt_date = Some(stamp(e));
    let text = said(e);
    if let Some(action) = e.head.action {
        r.action = action;
        r.status = status_of(action, e, text.as_deref());
    }
    let host = |f| e.text(f).filter(|v| !v.is_empty() && v != "none");
    r.remote_mta = host(Field::RemoteMta);
    r.remote_ip = host(Field::RemoteIp);
    r.relay = host(Field::Relay).or_else(|| host(Field::Transport));
    r.remote_queue_id = host(Field::RemoteQueueId);
    r.diagnostic = text.or(r.diagnostic.take());
    if e.head.kind == Kind::Attempt {
        // Held before, perhaps; now it is not.
        r.disposition = None;
    }
    if let Some(folder) = e.text(Field::Folder) {
        r.disposition = Some(format!("folder:{folder}"));
    }
    if let Some(d) = e.text(Field::Disposition) {
        r.disposition = Some(d);
    }
}

/// The queue runner passed a recipient over: no attempt, and it takes back nothing; it is all that is known if there was none.
fn passed_over(r: &mut Recipient, e: &Event) {
    r.diagnostic = r.diagnostic.take().or_else(|| said(e));
}

/// The MTA gave up on a recipient: no attempt; the reason is what the latest one said.
fn expire(r: &mut Recipient, e: &Event) {
    let text = said(e);
    r.action = Action::Failed;
    r.status = status_of(Action::Failed, e, text.as_deref());
    r.last_attempt_date = r.last_attempt_date.or(Some(stamp(e)));
    r.diagnostic = match (text, r.diagnostic.take()) {
        (Some(text), Some(kept)) if text != kept => Some(format!("{text}; {kept}")),
        (text, kept) => text.or(kept),
    };
}

/// A decision's word on a recipient that has not ended: it is no attempt, and says nothing of a next host.
fn decide(r: &mut Recipient, e: &Event) {
    let text = said(e);
    if let Some(action) = e.head.action {
        r.action = action;
        r.status = status_of(action, e, text.as_deref());
    }
    r.disposition = e.text(Field::Disposition);
    // Expiry says nothing of its own: the reason is the latest attempt's.
    let expired = e.get(Field::Result).is_some_and(|w| w.ends_with(b"expired"));
    let kept = r.diagnostic.take();
    r.diagnostic = if expired { kept.or(text) } else { text.or(kept) };
}

/// The reply or remark of an event; a refusal's with its codes before it, where the line gave them apart.
fn said(e: &Event) -> Option<String> {
    let text = e.text(Field::Diagnostic).or_else(|| e.text(Field::Remark))?;
    let code = if e.head.kind == Kind::Reject { e.text(Field::ReplyCode) } else { None };
    match code.filter(|code| !text.starts_with(code.as_str())) {
        None => Some(text),
        Some(code) => Some(match e.text(Field::Status) {
            Some(status) => format!("{code} {status} {text}"),
            None => format!("{code} {text}"),
        }),
    }
}
