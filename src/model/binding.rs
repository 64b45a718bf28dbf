//! Who may track a message: what binding events say (RFC 3885; R8).

use super::event::{Event, Field, Kind};
use super::record::{Binding, Recipient};

/// Takes a binding event. Of several with one envelope id and certifier the latest says until when, and one that
/// takes the binding back (`expires` 0) does so for good, whatever the order.
pub(super) fn take(bindings: &mut Vec<Binding>, e: &Event) {
    let (Some(envelope_id), Some(certifier)) = (e.text(Field::EnvelopeId), e.text(Field::Certifier)) else { return };
    let expires: Option<i64> = e.text(Field::Expires).and_then(|t| t.parse().ok());
    let recipient = e.text(Field::NamedRecipient).filter(|n| !n.is_empty());
    let revoked = expires == Some(0);
    match bindings.iter_mut().find(|b| b.envelope_id == envelope_id && b.certifier == certifier) {
        Some(b) if revoked => b.revoked = true,
        Some(b) => {
            b.expires = expires;
            b.recipient = recipient;
        }
        None => bindings.push(Binding { envelope_id, certifier, expires, recipient, revoked }),
    }
}

/// Marks the recipients whose next host was seen to track: those of an attempt that says so, or those that a binding event
/// names (by recipient or next host; all, if it names none). A gateway behind the MTA knows the next host better than the
/// MTA, whose next host is the gateway: where its event names recipient and host, that host it is.
pub(super) fn mark_next(recipients: &mut [Recipient], events: &[Event]) {
    for e in events {
        if e.head.kind == Kind::Binding && e.get(Field::FinalRecipient).is_some() {
            behind(recipients, e);
            continue;
        }
        if !matches!(e.head.kind, Kind::Binding | Kind::Attempt) || e.get(Field::NextTracks) != Some(b"yes") {
            continue;
        }
        let named = e.text(Field::NamedRecipient).or_else(|| e.text(Field::FinalRecipient));
        let host = e.text(Field::RemoteMta);
        for r in recipients.iter_mut() {
            let is_named = named.as_deref().is_none_or(|n| n.eq_ignore_ascii_case(&r.final_recipient));
            let is_there = host.as_deref().is_none_or(|h| r.remote_mta.as_deref().is_some_and(|m| m.eq_ignore_ascii_case(h)));
            r.next_tracks |= is_named && is_there;
        }
    }
}

/// What a gateway behind the MTA says of a recipient's next host.
fn behind(recipients: &mut [Recipient], e: &Event) {
    let (Some(named), Some(host)) = (e.text(Field::FinalRecipient), e.text(Field::RemoteMta)) else { return };
    for r in recipients.iter_mut().filter(|r| r.final_recipient.eq_ignore_ascii_case(&named)) {
        r.remote_mta = Some(host.clone());
        r.remote_ip = e.text(Field::RemoteIp);
        r.next_tracks = e.get(Field::NextTracks) == Some(b"yes");
    }
}
