//! The event: one fact that one line states about one message at one MTA.
//!
//! An event is kept as the line itself plus *spans*: which bytes of it are which field. That is
//! what makes ingest cheap (nothing is copied but the line), the index small (a field costs three
//! bytes) and every answer provable (the line is there). What a field says beyond the line's own
//! words (a value joined from another line) is appended behind the line and spanned likewise.

use super::time::{Precision, SECOND, yearless};
use super::varint::{get_varint, put_varint, unzigzag, zigzag};
use std::borrow::Cow;
use xxhash_rust::xxh3::xxh3_64;

/// The most bytes of one line that are kept (R6); the rest is cut and the line marked.
pub const MAX_LINE: usize = 8 * 1024;

macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $num:literal, $text:literal;)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $num,)+ }

        impl $name {
            /// Every value, in the order of its number.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The name used in parser files and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }

            /// The value of a name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some($name::$variant),)+ _ => None }
            }

            /// The value of a stored number, if there is one.
            pub fn from_u8(n: u8) -> Option<Self> {
                match n { $($num => Some($name::$variant),)+ _ => None }
            }
        }
    };
}

named_enum! {
    /// What sort of fact an event is. [`Kind::rank`] orders events of one instant.
    Kind {
        /// A message entered the MTA (`client=`, pickup, `<=`).
        Arrival = 0, "arrival";
        /// Something about the message as it lies in the queue (sender, size, Message-ID, subject).
        Queued = 1, "queued";
        /// A delivery attempt for one recipient, with its result.
        Attempt = 2, "attempt";
        /// Refused before it was queued (no queue id).
        Reject = 3, "reject";
        /// A report of a program that is no MTA: Dovecot, amavis, ... (R9).
        Witness = 4, "witness";
        /// A notification about this message was made (links the bounce's queue id).
        Notice = 5, "notice";
        /// The MTA decided about the message as a whole: expired, rejected, discarded, held.
        Final = 6, "final";
        /// The message left the queue.
        Closed = 7, "closed";
        /// An envelope id and a certifier that open this record to a tracking user agent (RFC 3885, 3887).
        Binding = 8, "binding";
        /// What a delivery status notification claims about a recipient (RFC 3464). It stands beside the log's word (R8).
        Report = 9, "report";
    }
}

impl Kind {
    /// Order of events that bear the same time (R1).
    pub fn rank(self) -> u8 {
        match self {
            Kind::Arrival => 0,
            Kind::Queued | Kind::Binding => 1,
            Kind::Attempt | Kind::Reject | Kind::Witness => 2,
            Kind::Notice | Kind::Final | Kind::Report => 4,
            Kind::Closed => 5,
        }
    }
}

named_enum! {
    /// RFC 3886, 3.3.3: what became of a recipient at this MTA.
    Action {
        /// Not delivered and never will be.
        Failed = 1, "failed";
        /// Still queued.
        Delayed = 2, "delayed";
        /// In the mailbox, or handed to its delivery agent.
        Delivered = 3, "delivered";
        /// Handed to an MTA that is not known to track.
        Relayed = 4, "relayed";
        /// Handed to an MTA whose record follows or which is known to track. Never stored: a journey derives it.
        Transferred = 5, "transferred";
        /// An alias or list with several members.
        Expanded = 6, "expanded";
        /// More must not or cannot be said.
        Opaque = 7, "opaque";
    }
}

named_enum! {
    /// A field of an event. Names are those of RFC 3464 and RFC 3886 in snake_case.
    Field {
        /// The MTA's own id of the message.
        QueueId = 1, "queue_id";
        /// Message-ID, without angle brackets.
        MessageId = 2, "message_id";
        /// ENVID (RFC 3461), as logged.
        EnvelopeId = 3, "envelope_id";
        /// Sender of the envelope, without angle brackets; empty for a bounce.
        EnvelopeFrom = 4, "envelope_from";
        /// The recipient as the client named it to this MTA.
        OriginalRecipient = 5, "original_recipient";
        /// The recipient after aliases and the like.
        FinalRecipient = 6, "final_recipient";
        /// Enhanced status code (RFC 3463).
        Status = 7, "status";
        /// Name of the next host.
        RemoteMta = 8, "remote_mta";
        /// Address of the next host.
        RemoteIp = 9, "remote_ip";
        /// Id that the next host gave the message.
        RemoteQueueId = 10, "remote_queue_id";
        /// The reply or error text.
        Diagnostic = 11, "diagnostic";
        /// Bytes.
        Size = 12, "size";
        /// Number of recipients as the queue manager counts them.
        RecipientCount = 13, "recipient_count";
        /// Name of the host the message came from.
        ClientName = 14, "client_name";
        /// Address of the host the message came from.
        ClientIp = 15, "client_ip";
        /// HELO or EHLO argument.
        Helo = 16, "helo";
        /// Login name of an authenticated client.
        AuthUser = 17, "auth_user";
        /// Subject.
        Subject = 18, "subject";
        /// Queue id under which the same host had the message before (content filter, bounce's parent).
        OrigQueueId = 19, "orig_queue_id";
        /// Queue id of the notification that was made about this message.
        NoticeQueueId = 20, "notice_queue_id";
        /// Protocol word (`ESMTP`, `esmtps`).
        Protocol = 21, "protocol";
        /// Seconds or Postfix's `a/b/c/d`.
        Delay = 22, "delay";
        /// The result word of the log, before mapping. `waiting` (passed over, no attempt) and `expired` (given up, no attempt) have a meaning of their own.
        Result = 23, "result";
        /// What the operator is told beyond the action: `discarded`, `quarantined`, `deleted` (by the operator), `redirected`, `folder:NAME`.
        Disposition = 24, "disposition";
        /// Relay or transport as written, where it is no host.
        Relay = 25, "relay";
        /// Folder a mail was saved to.
        Folder = 26, "folder";
        /// Address a mail was redirected to.
        RedirectedTo = 27, "redirected_to";
        /// A parent address that the recipient was made from (Exim's `<...>` chain).
        Parent = 28, "parent";
        /// Program as logged, in full (`postfix/submission/smtpd`).
        Program = 29, "program";
        /// A verdict of a filter (`Passed CLEAN`).
        Verdict = 30, "verdict";
        /// A name given to what was done at this MTA (`router`, `transport`).
        Transport = 31, "transport";
        /// Which recipients a whole-message decision names, when it names one.
        NamedRecipient = 32, "named_recipient";
        /// Several recipients in one list, as written.
        Recipients = 33, "recipients";
        /// An SMTP reply code where no enhanced one is given.
        ReplyCode = 34, "reply_code";
        /// The kind of notification (`non-delivery`, `delay`, `delivery status`).
        NoticeKind = 35, "notice_kind";
        /// The SMTP command that was refused.
        Command = 36, "command";
        /// Queue id (same host) of the message that this one is a notification about (Exim's `R=`).
        NoticeOf = 37, "notice_of";
        /// Resent-Message-ID, without angle brackets.
        ResentMessageId = 38, "resent_message_id";
        /// A remark beyond the reply.
        Remark = 39, "remark";
        /// SHA-1 of the secret (RFC 3885, 3.2): base64 without padding, 27 characters.
        Certifier = 40, "certifier";
        /// Until when a binding opens the record, seconds since 1970.
        Expires = 41, "expires";
        /// Whether the next host was seen to offer MTRK (`yes`, `no`).
        NextTracks = 42, "next_tracks";
        /// Host that a notification names as its reporting MTA.
        ReportingMta = 43, "reporting_mta";
        /// Arrival-Date of a notification, seconds since 1970.
        ArrivalDate = 44, "arrival_date";
        /// Last-Attempt-Date of a notification, seconds since 1970.
        LastAttemptDate = 45, "last_attempt_date";
        /// Will-Retry-Until, seconds since 1970.
        WillRetryUntil = 46, "will_retry_until";
        /// Why, in one normalised word or two (`user unknown`, `mailbox full`).
        Reason = 47, "reason";
        /// How sure the reader is of a claim (`low` where only words were understood).
        Confidence = 48, "confidence";
        /// Host that handed us the notification.
        ReportedBy = 49, "reported_by";
        /// Number or name of a session or delivery, by which later lines go on (`[session]` in a parser file).
        Session = 60, "session";
        /// Id under which this host told the client that it took the message, where that is not the queue id (qmail's `qp`).
        ReplyId = 61, "reply_id";
        /// Message-ID of a notification's own mail, without angle brackets.
        ReportId = 62, "report_id";
        /// How a claim's status was found, where the notification gives none (`diagnostic`, `smtp code`, `text`, `action`).
        StatusFrom = 63, "status_from";
        /// Domain that an attempt is for, where the line names no recipient: it speaks of those of that domain that have not
        /// ended. `*`: of all of them. Empty: the line does not say which domain, so it speaks of them if all that are left are of one.
        Domain = 64, "domain";
        /// Seconds for which a message's sender asked to track it (RFC 3885, 3.1); of an event only [`Field::Expires`] is kept.
        TrackTimeout = 80, "track_timeout";
        /// Process id that the line's tag bears; it names sessions and is not kept.
        Pid = 81, "pid";
    }
}

impl Field {
    /// Whether it names a message, at this host or at another. A tracking query finds its record by the hash of its secret:
    /// so a wrong secret and an unknown message are one miss.
    pub fn is_id(self) -> bool {
        use Field::*;
        matches!(self, QueueId | MessageId | EnvelopeId | RemoteQueueId | OrigQueueId | ReplyId | NoticeQueueId | NoticeOf | Certifier)
    }
}

/// What an event says apart from its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Sort of fact.
    pub kind: Kind,
    /// The outcome that the pattern read from the line, where it read one.
    pub action: Option<Action>,
    /// Microseconds since 1970, UTC.
    pub time: i64,
    /// How fine `time` is.
    pub precision: Precision,
    /// Seconds since 1970 of the stamp as written, its local time read as if it were UTC.
    pub written: i64,
    /// Which of several equal lines of one second in one source this is, from 0.
    pub ordinal: u32,
}

/// Which bytes of an event's text are a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The field.
    pub field: Field,
    /// First byte.
    pub start: u32,
    /// Bytes.
    pub len: u32,
}

/// One event in its stored form, borrowed. Made by [`encode`], read by [`Event::decode`].
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// Kind, action, times.
    pub head: Head,
    spans: &'a [u8],
    text: &'a [u8],
    line_len: usize,
}

/// In an event's flags: its time is given in seconds, not microseconds.
const WHOLE_SECONDS: u8 = 0x80;

/// Appends an event's stored form to `out`. `line` and `extra` together are the text that `spans` point into.
///
/// # Examples
/// ```
/// use msgtrk::model::event::*;
/// use msgtrk::model::time::Precision;
/// let head = Head { kind: Kind::Closed, action: None, time: 0, precision: Precision::Second, written: 0, ordinal: 0 };
/// let mut out = Vec::new();
/// encode(&mut out, &head, &[Span { field: Field::QueueId, start: 0, len: 3 }], b"4Ab: removed", b"");
/// let (event, rest) = Event::decode(&out).unwrap();
/// assert_eq!(event.get(Field::QueueId), Some(&b"4Ab"[..]));
/// assert!(rest.is_empty());
/// ```
pub fn encode(out: &mut Vec<u8>, head: &Head, spans: &[Span], line: &[u8], extra: &[u8]) {
    out.push(head.kind as u8);
    let unit = if head.time % SECOND == 0 { SECOND } else { 1 };
    let whole = if unit == SECOND { WHOLE_SECONDS } else { 0 };
    out.push(head.action.map_or(0, |a| a as u8) | ((head.precision as u8) << 4) | whole);
    put_varint(out, zigzag(head.time / unit));
    put_varint(out, zigzag(head.written - head.time.div_euclid(SECOND)));
    put_varint(out, u64::from(head.ordinal));
    let at = out.len();
    put_varint(out, 0);
    // Where a field begins is told from where the one before ended: so much is nearly the same in all lines of a kind.
    let mut end = 0;
    for s in spans {
        out.push(s.field as u8);
        put_varint(out, zigzag(i64::from(s.start) - end));
        put_varint(out, u64::from(s.len));
        end = i64::from(s.start) + i64::from(s.len);
    }
    // The byte length of the spans precedes them; nearly always one byte is enough for it.
    let len = out.len() - at - 1;
    if len < 0x80 {
        if let Some(slot) = out.get_mut(at) {
            *slot = len as u8;
        }
    } else {
        let tail = out.split_off(at + 1);
        out.pop();
        put_varint(out, tail.len() as u64);
        out.extend_from_slice(&tail);
    }
    put_varint(out, line.len() as u64);
    put_varint(out, extra.len() as u64);
    out.extend_from_slice(line);
    out.extend_from_slice(extra);
}

/// Reads the number of a field, where it begins and how long it is. `end` is where the field before it ended.
fn next_span(spans: &mut &[u8], end: &mut i64) -> Option<(u8, u32, u32)> {
    let (&field, rest) = spans.split_first()?;
    *spans = rest;
    let start = u32::try_from(end.checked_add(unzigzag(get_varint(spans)?))?).ok()?;
    let len = u32::try_from(get_varint(spans)?).ok()?;
    *end = i64::from(start) + i64::from(len);
    Some((field, start, len))
}

impl<'a> Event<'a> {
    /// Reads one event from the front of `bytes` and returns what is left behind it. `None` if the bytes are no event.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let mut b = bytes;
        let (&kind, rest) = b.split_first()?;
        let (&flags, rest) = rest.split_first()?;
        b = rest;
        let unit = if flags & WHOLE_SECONDS == 0 { 1 } else { SECOND };
        let time = unzigzag(get_varint(&mut b)?).checked_mul(unit)?;
        let delta = unzigzag(get_varint(&mut b)?);
        let ordinal = get_varint(&mut b)? as u32;
        let span_len = get_varint(&mut b)? as usize;
        let (spans, rest) = b.split_at_checked(span_len)?;
        b = rest;
        let line_len = get_varint(&mut b)? as usize;
        let extra_len = get_varint(&mut b)? as usize;
        let (text, rest) = b.split_at_checked(line_len.checked_add(extra_len)?)?;
        let head = Head {
            kind: Kind::from_u8(kind)?,
            action: Action::from_u8(flags & 15),
            time,
            precision: Precision::from_u8((flags & !WHOLE_SECONDS) >> 4),
            written: time.div_euclid(SECOND).checked_add(delta)?,
            ordinal,
        };
        Some((Event { head, spans, text, line_len }, rest))
    }

    /// Which bytes of [`Event::whole`] are which field, in the order the pattern names them.
    pub fn spans(&self) -> impl Iterator<Item = Span> + use<'a> {
        let mut b = self.spans;
        let mut end = 0i64;
        std::iter::from_fn(move || {
            let (field, start, len) = next_span(&mut b, &mut end)?;
            Some(Span { field: Field::from_u8(field)?, start, len })
        })
    }

    /// The fields in the order the pattern names them.
    pub fn fields(&self) -> impl Iterator<Item = (Field, &'a [u8])> + use<'a> {
        let text = self.text;
        self.spans().map_while(move |s| Some((s.field, text.get(s.start as usize..(s.start as usize).checked_add(s.len as usize)?)?)))
    }

    /// The first value of a field.
    pub fn get(&self, field: Field) -> Option<&'a [u8]> {
        let mut spans = self.spans;
        let mut end = 0i64;
        loop {
            let (number, start, len) = next_span(&mut spans, &mut end)?;
            if number == field as u8 {
                return self.text.get(start as usize..(start as usize).checked_add(len as usize)?);
            }
        }
    }

    /// The first value of a field as text; bytes that are no UTF-8 become U+FFFD.
    pub fn text(&self, field: Field) -> Option<String> {
        self.get(field).map(|v| as_text(v).into_owned())
    }

    /// The whole log line.
    pub fn line(&self) -> &'a [u8] {
        self.text.get(..self.line_len).unwrap_or(self.text)
    }

    /// The line and, behind it, what was joined from other lines.
    pub fn whole(&self) -> &'a [u8] {
        self.text
    }

    /// The event's identity within its queue id (R1): what it says, its second as written, and its ordinal.
    ///
    /// Host, MTA and queue id are those of the record and not hashed again.
    pub fn identity(&self) -> u64 {
        let mut scratch = Vec::with_capacity(512);
        let base = base_identity(&mut scratch, self.head.kind, self.head.action, yearless(self.head.written), self.fields());
        with_ordinal(base, self.head.ordinal)
    }

    /// The order of events in a record: time, then rank of kind, then identity, so that it never depends on input order.
    /// An attempt that ended a recipient comes after one that did not, so that a deferral and a delivery of one second never change places.
    pub fn order(&self) -> (i64, u8, u64) {
        let (time, rank) = self.rank();
        (time, rank, self.identity())
    }

    /// [`Event::order`] as far as it can be told without the identity.
    pub(super) fn rank(&self) -> (i64, u8) {
        let ends = self.head.kind == Kind::Attempt && self.head.action.is_some_and(|a| a != Action::Delayed);
        (self.head.time, self.head.kind.rank() + u8::from(ends))
    }

    /// What events of the same identity have in common, and can be told at a glance: kind, action, second of the day, ordinal.
    pub(super) fn glance(&self) -> (Kind, Option<Action>, i64, u32) {
        (self.head.kind, self.head.action, self.head.written.rem_euclid(86_400), self.head.ordinal)
    }
}

/// Bytes as text; what is no UTF-8 becomes U+FFFD.
pub fn as_text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The part of an identity that equal lines of one second share. `scratch` is overwritten.
pub fn base_identity<'a>(
    scratch: &mut Vec<u8>,
    kind: Kind,
    action: Option<Action>,
    yearless_second: u32,
    fields: impl Iterator<Item = (Field, &'a [u8])>,
) -> u64 {
    scratch.clear();
    scratch.push(kind as u8);
    scratch.push(action.map_or(0, |a| a as u8));
    scratch.extend_from_slice(&yearless_second.to_le_bytes());
    for (field, value) in fields.filter(|(f, _)| *f != Field::Program) {
        scratch.push(field as u8);
        scratch.extend_from_slice(&(value.len() as u32).to_le_bytes());
        scratch.extend_from_slice(value);
    }
    xxh3_64(scratch)
}

/// The identity of the `ordinal`-th of equal lines.
pub fn with_ordinal(base: u64, ordinal: u32) -> u64 {
    base ^ u64::from(ordinal).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// All events of a concatenation.
pub fn decode_all(mut bytes: &[u8]) -> impl Iterator<Item = Event<'_>> {
    std::iter::from_fn(move || {
        let (event, rest) = Event::decode(bytes)?;
        bytes = rest;
        Some(event)
    })
}

#[cfg(test)]
mod tests;
