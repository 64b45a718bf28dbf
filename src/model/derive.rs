//! From the set of events to what is shown: a pure function (R1).

use super::event::{Action, Event, Field, Kind, as_text};
use super::record::{Addressed, Record, Role, Stamp, StoredRecord};
use people::{People, split_addresses};

/// Computes the record of a stored set of events.
pub fn derive(stored: &StoredRecord) -> Record {
    let mut events: Vec<Event> = Vec::with_capacity(8);
    events.extend(stored.events());
    let first = events.first().map_or(EPOCH, stamp);
    let last = events.iter().filter(|e| e.head.kind != Kind::Binding).max_by_key(|e| e.head.time).map_or(EPOCH, stamp);
    let mut r = Record {
        key: stored.key.clone(),
        role: stored.role,
        reporting_mta: stored.slot.host.clone(),
        mta: stored.mta.clone(),
        instance: stored.slot.instance.clone(),
        // A report's slot is named by its content; the id of the message is one that it tells.
        queue_id: (!matches!(stored.role, Role::Reject | Role::Report)).then(|| stored.slot.queue_id.clone()),
        arrival_date: first,
        last_event_date: last,
        closed: stored.role != Role::Hop,
        message_id: None,
        envelope_id: None,
        envelope_from: None,
        size: None,
        recipient_count: None,
        client: Default::default(),
        auth_user: None,
        subject: None,
        orig_queue_id: None,
        reply_id: None,
        notice_of: None,
        notices: Vec::new(),
        verdict: None,
        report_id: None,
        reported_by: None,
        remark: None,
        recipients: Vec::new(),
        envelope: Vec::new(),
        bindings: Vec::new(),
        events: Vec::new(),
    };
    let mut people = People::default();
    for event in &events {
        take_scalars(&mut r, event);
        match event.head.kind {
            Kind::Attempt | Kind::Reject | Kind::Witness => people.attempt(event, stored.role),
            Kind::Final => {
                people.decision(event, &mut r);
                // Refused or thrown away as a whole: it lies in no queue, though no line says that it left.
                r.closed |= matches!(event.head.action, Some(Action::Failed | Action::Opaque));
            }
            Kind::Notice => {
                if let (Some(kind), Some(id)) = (event.text(Field::NoticeKind), event.text(Field::NoticeQueueId)) {
                    r.notices.push((kind, id));
                }
                people.wait(event);
            }
            Kind::Closed => {
                r.closed = true;
                r.remark = event.text(Field::Remark).or(r.remark.take());
            }
            Kind::Arrival | Kind::Queued => {
                people.addressed(event);
                if is_gateway(event) && r.envelope.is_empty() {
                    r.envelope = envelope(event);
                }
            }
            Kind::Binding => super::binding::take(&mut r.bindings, event),
            Kind::Report if stored.role == Role::Report => people.claim(event),
            Kind::Report => {}
        }
    }
    people.settle(&mut r);
    r.recipients = people.list;
    r.closed |= all_ended(&r);
    super::binding::mark_next(&mut r.recipients, &events);
    r
}

/// MTAs that always say when a message left the queue. (Exim never says how many recipients there are: those that have ended
/// so far need not be all.)
const SAY_THE_END: &[&str] = &["postfix", "exim", "qmail"];

/// Other MTAs (OpenSMTPD, Courier, Sendmail below LogLevel 10) never say that a message left the queue: it did when nobody is left to try.
fn all_ended(r: &Record) -> bool {
    if SAY_THE_END.contains(&r.mta.as_str()) {
        return false;
    }
    let count = r.recipient_count.unwrap_or(0);
    let ended = r.recipients.iter().filter(|p| p.action != Action::Delayed).count();
    ended > 0 && ended == r.recipients.len() && ended as u64 >= count
}

const EPOCH: Stamp = Stamp { micros: 0, precision: super::time::Precision::Second };

/// Program that the events of msgtrk's own SMTP gateway name.
pub const GATEWAY: &str = "msgtrk/smtp";

/// The most bytes of recipients in one event of the gateway's; where so many are named, there may have been more.
pub const MAX_NAMED: usize = 64 << 10;

fn is_gateway(e: &Event) -> bool {
    e.get(Field::Program) == Some(GATEWAY.as_bytes())
}

/// The envelope that a gateway noted, if it noted all of it.
fn envelope(e: &Event) -> Vec<Addressed> {
    // The last one may have been left out for its length, at most 4 KiB.
    let Some(list) = e.text(Field::Recipients).filter(|l| l.len() < MAX_NAMED - 4096) else { return Vec::new() };
    let mut all: Vec<Addressed> = split_addresses(&list).into_iter().map(|address| Addressed { address, orcpt: None }).collect();
    let text = |v: &[u8]| String::from_utf8_lossy(v).into_owned();
    let mut of = None;
    for (field, value) in e.fields() {
        match field {
            Field::FinalRecipient => of = Some(text(value)),
            Field::OriginalRecipient => {
                let who = of.take();
                for named in all.iter_mut().filter(|n| Some(&n.address) == who.as_ref()) {
                    named.orcpt = Some(text(value));
                }
            }
            _ => {}
        }
    }
    all
}

fn stamp(e: &Event) -> Stamp {
    Stamp { micros: e.head.time, precision: e.head.precision }
}

/// The first event that names a thing is believed; only what may become known better later is overwritten.
fn take_scalars(r: &mut Record, e: &Event) {
    for (field, value) in e.fields() {
        let text = || as_text(value).into_owned();
        let set = |slot: &mut Option<String>| {
            if slot.is_none() && !value.is_empty() {
                *slot = Some(text());
            }
        };
        match field {
            Field::MessageId => set(&mut r.message_id),
            Field::EnvelopeId => set(&mut r.envelope_id),
            Field::EnvelopeFrom if r.envelope_from.is_none() => r.envelope_from = Some(text()),
            Field::Size if r.size.is_none() => r.size = text().parse().ok(),
            Field::RecipientCount if r.recipient_count.is_none() => r.recipient_count = text().parse().ok(),
            Field::ClientName if value != b"unknown" => set(&mut r.client.name),
            Field::ClientIp if value != b"unknown" => set(&mut r.client.ip),
            Field::AuthUser => set(&mut r.auth_user),
            Field::Subject => set(&mut r.subject),
            Field::OrigQueueId => set(&mut r.orig_queue_id),
            Field::ReplyId => set(&mut r.reply_id),
            Field::NoticeOf => set(&mut r.notice_of),
            Field::Verdict => set(&mut r.verdict),
            Field::QueueId if r.role == Role::Report => set(&mut r.queue_id),
            Field::ReportId => set(&mut r.report_id),
            Field::ReportedBy => set(&mut r.reported_by),
            _ => {}
        }
    }
}

mod people;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_addresses() {
        assert_eq!(split_addresses("<a@b>,<c@d>"), ["a@b", "c@d"]);
        assert_eq!(split_addresses(r#"<"a>,<b"@c>,<d@e>"#), [r#""a>,<b"@c"#, "d@e"]);
        assert_eq!(split_addresses("a@b \"c d\"@e"), ["a@b", "\"c d\"@e"]);
    }

    #[test]
    fn a_mailbox_name_beside_its_address_is_one_recipient() {
        let pair = |o: &str, l: &str| people::name_pair(Some(o.into()), l.into());
        assert_eq!(pair("u1@local.test", "u1"), ("u1@local.test".into(), "u1@local.test".into()));
        assert_eq!(pair("team@local.test", "u1"), ("team@local.test".into(), "u1".into()));
        assert_eq!(pair("\"ok q\"@x.test", "ok q").1, "\"ok q\"@x.test");
    }
}
