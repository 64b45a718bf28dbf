//! Proof of a hand-over: both ends agree (R8).
//!
//! A Message-ID can be copied and a remote host can put any queue id into its reply; neither alone opens anything. What is
//! asked for: the reply's id is the next record's; the host spoken to is that record's host; that record's client is the
//! host that handed over; Message-IDs are equal where both log one; both ends lie within 14 hours.

use super::Policy;
use super::policy::in_domains;
use crate::model::event::Action;
use crate::model::journey::{PROOF_WINDOW, same_host};
use crate::model::record::{Recipient, Record, Role};

/// Whether `p` of `r` is proven to have gone on as `c`.
pub fn proves(r: &Record, p: &Recipient, c: &Record, policy: &Policy) -> bool {
    let when = p.last_attempt_date.unwrap_or(r.last_event_date).micros;
    let handed = matches!(p.action, Action::Relayed | Action::Transferred | Action::Delivered);
    let mails_agree = r.message_id.is_none() || c.message_id.is_none() || r.message_id == c.message_id;
    let near = (c.arrival_date.micros - when).abs() <= PROOF_WINDOW;
    let hops = r.role == Role::Hop && c.role == Role::Hop && r.key != c.key;
    if !(handed && mails_agree && near && hops) {
        return false;
    }
    gave_back(r, p, c, policy) || took(r, p, c, policy)
}

/// A content filter on the same host gave it back: the receiver's own log names the id it had before.
fn gave_back(r: &Record, p: &Recipient, c: &Record, policy: &Policy) -> bool {
    let same = policy.host(&r.reporting_mta) == policy.host(&c.reporting_mta);
    let mail = r.message_id.is_some() && r.message_id == c.message_id;
    c.orig_queue_id.is_some() && c.orig_queue_id == r.queue_id && same && mail && is_local(p) && c.notice_of.is_none()
}

/// The reply named the id under which the receiver took it.
fn took(r: &Record, p: &Recipient, c: &Record, policy: &Policy) -> bool {
    if p.remote_queue_id.is_none() || p.remote_queue_id != c.queue_id {
        return false;
    }
    if is_local(p) {
        let own = [Some("localhost"), Some("127.0.0.1"), Some("::1")];
        let from_here = |x: Option<&str>| x.is_none() || own.contains(&x) || x.is_some_and(|x| one_host(x, &r.reporting_mta, None, policy));
        let same = policy.host(&r.reporting_mta) == policy.host(&c.reporting_mta);
        return same && (from_here(c.client.ip.as_deref()) || from_here(c.client.name.as_deref().or(c.client.ip.as_deref())));
    }
    let to = [p.remote_mta.as_deref(), p.remote_ip.as_deref()];
    let from = [c.client.name.as_deref(), c.client.ip.as_deref()];
    // Where relay and client share a domain, a short log name of either is meant inside that domain.
    let shared = p.remote_mta.as_deref().zip(c.client.name.as_deref()).and_then(|(a, b)| shared_domain(a, b));
    to.into_iter().flatten().any(|x| one_host(x, &c.reporting_mta, shared, policy))
        && from.into_iter().flatten().any(|x| one_host(x, &r.reporting_mta, shared, policy))
}

/// Within the MTA or on the same host.
pub(super) fn is_local(p: &Recipient) -> bool {
    match (p.remote_ip.as_deref(), p.remote_mta.as_deref()) {
        (None, None) => true,
        (Some(ip), _) => ip == "::1" || ip.starts_with("127."),
        (None, Some(name)) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether a name or address that one end logged is the host of a record.
fn one_host(named: &str, host: &str, shared: Option<&str>, policy: &Policy) -> bool {
    let (a, b) = (policy.host(named), policy.host(host));
    if a == b {
        return !a.is_empty();
    }
    let long = if a.len() > b.len() { &a } else { &b };
    let domains = shared.map(str::to_lowercase);
    same_host(&a, &b) && (in_domains(long, &policy.own_domains) || domains.is_some_and(|d| in_domains(long, &[d])))
}

/// The domain that two hosts have in common: what is behind the first label of both, two labels or more.
fn shared_domain<'a>(a: &'a str, b: &str) -> Option<&'a str> {
    let of = |x: &str| x.trim_end_matches('.').split_once('.').map(|(_, d)| d.to_lowercase());
    let domain = of(a)?;
    let start = a.split_once('.')?.1.trim_end_matches('.');
    (domain.contains('.') && Some(domain) == of(b)).then_some(start)
}
