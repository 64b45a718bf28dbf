//! What speaks for two records being of one message, and for two names being one.

use super::{LIKENESS_WINDOW, PROOF_WINDOW};
use crate::model::event::Action;
use crate::model::record::{Recipient, Record};

/// Addresses compare without case and without needless quotes.
pub fn same_address(a: &str, b: &str) -> bool {
    a == b || folded(a) == folded(b)
}

/// What [`same_address`] compares.
pub fn folded(a: &str) -> String {
    let a = a.to_lowercase();
    match a.rsplit_once('@') {
        Some((local, domain)) if local.len() > 1 && local.starts_with('"') && local.ends_with('"') => {
            format!("{}@{domain}", local.trim_matches('"').replace('\\', ""))
        }
        _ => a,
    }
}

/// Whether `c` names the id that `r` has on the same host (re-injection by a content filter, requeueing) and came while
/// `r` was there or soon after: short ids come back.
pub(super) fn handed_back(r: &Record, c: &Record) -> bool {
    c.orig_queue_id.is_some()
        && c.orig_queue_id == r.queue_id
        && same_host(&c.reporting_mta, &r.reporting_mta)
        && apart_from(r, c.arrival_date.micros) <= PROOF_WINDOW
}

/// Whether `c` is `r` under a new id (`postsuper -r`): no client brought it.
pub(super) fn requeued(r: &Record, c: &Record) -> bool {
    handed_back(r, c) && c.client.name.is_none() && c.client.ip.is_none()
}

/// Microseconds between a moment and the time in which `r` was seen; 0 within it.
pub(super) fn apart_from(r: &Record, at: i64) -> i64 {
    (r.arrival_date.micros - at).max(at - r.last_event_date.micros).max(0)
}

/// Whether `p` of `r` was handed to `c`: the id is `c`'s and the host spoken to is `c`'s host.
pub(super) fn hands_over(r: &Record, p: &Recipient, c: &Record) -> bool {
    let id = p.remote_queue_id.as_deref();
    let taken = id.is_some() && (id == c.queue_id.as_deref() || id == c.reply_id.as_deref());
    if !taken || matches!(p.action, Action::Failed | Action::Delayed) {
        return false;
    }
    if is_local_hop(p) {
        return same_host(&r.reporting_mta, &c.reporting_mta);
    }
    let exact = p.remote_ip.as_deref() == Some(c.reporting_mta.as_str())
        || p.remote_mta.as_deref().is_some_and(|n| n.contains('.') && n.eq_ignore_ascii_case(&c.reporting_mta));
    let client = client_is(c, &r.reporting_mta);
    let same_mail = r.message_id.is_some() && r.message_id == c.message_id;
    // Some MTAs log no Message-ID (Courier, OpenSMTPD, qmail), and qmail no client either: the same recipient must do, soon after.
    let silent = r.message_id.is_none() || c.message_id.is_none();
    let same_recipient = || silent && soon(p, c) && c.recipients.iter().any(|x| names_recipient(x, p));
    let no_client = c.client.name.is_none() && c.client.ip.is_none();
    // A short host name fits many a stranger's: then the other end must agree, too. So must a host known under another name.
    exact
        || (names_host(p, &c.reporting_mta) && (client || same_mail || (no_client && same_recipient())))
        || (client && (same_mail || same_recipient()))
}

fn soon(p: &Recipient, c: &Record) -> bool {
    p.last_attempt_date.is_some_and(|t| (t.micros - c.arrival_date.micros).abs() <= LIKENESS_WINDOW)
}

fn names_recipient(x: &Recipient, p: &Recipient) -> bool {
    same_address(&x.original_recipient, &p.final_recipient) || same_address(&x.final_recipient, &p.final_recipient)
}

/// A forward within the MTA, or a hand-over to something on the same host.
fn is_local_hop(p: &Recipient) -> bool {
    match (p.remote_ip.as_deref(), p.remote_mta.as_deref()) {
        (None, None) => true,
        (Some(ip), _) => ip == "::1" || ip.starts_with("127."),
        (None, Some(name)) => name == "localhost",
    }
}

pub(super) fn names_host(p: &Recipient, host: &str) -> bool {
    let local = is_local_hop(p) && p.remote_ip.is_some();
    !local && (p.remote_mta.as_deref().is_some_and(|n| same_host(n, host)) || p.remote_ip.as_deref() == Some(host))
}

pub(super) fn client_is(c: &Record, host: &str) -> bool {
    c.client.name.as_deref().is_some_and(|n| same_host(n, host)) || c.client.ip.as_deref() == Some(host)
}

pub(super) fn client_is_relay(c: &Record, p: &Recipient) -> bool {
    let name = matches!((&c.client.name, &p.remote_mta), (Some(a), Some(b)) if same_host(a, b));
    let ip = matches!((&c.client.ip, &p.remote_ip), (Some(a), Some(b)) if a == b && !a.starts_with("127."));
    name || ip
}

/// Host names compare without case; a short name matches the FQDN it begins.
pub fn same_host(a: &str, b: &str) -> bool {
    let (a, b) = (a.trim_end_matches('.'), b.trim_end_matches('.'));
    if a.eq_ignore_ascii_case(b) {
        return !a.is_empty();
    }
    let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
    let is_ip = |s: &str| s.parse::<std::net::IpAddr>().is_ok();
    let begins = || long.get(..short.len()).is_some_and(|l| l.eq_ignore_ascii_case(short));
    let whole_label = || long.as_bytes().get(short.len()) == Some(&b'.');
    !short.is_empty() && !short.contains('.') && whole_label() && begins() && !is_ip(long)
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
