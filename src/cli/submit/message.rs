//! A message as `sendmail -t` takes it from standard input, made ready to be sent.

use anyhow::bail;
use mail_parser::{Address, MessageParser};

/// The most bytes of a message that are read.
pub const MAX_MESSAGE: u64 = 256 << 20;

/// What is sent, and what is to be remembered of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Header and body, without Bcc; line ends as they came.
    pub text: Vec<u8>,
    /// Addresses in To, Cc and Bcc.
    pub named: Vec<String>,
    /// Address in From.
    pub from: Option<String>,
    /// Subject.
    pub subject: String,
    /// Message-ID without its brackets.
    pub message_id: String,
}

/// Header lines that are added where the message has none.
pub struct Missing<'a> {
    /// From.
    pub from: &'a str,
    /// Display name for it.
    pub full_name: Option<&'a str>,
    /// Date, RFC 5322.
    pub date: &'a str,
    /// Message-ID without its brackets.
    pub message_id: &'a str,
}

/// Without `-i`, a line that is a lone dot ends the message.
pub fn until_dot(text: &[u8]) -> &[u8] {
    let mut at = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if matches!(line, b".\n" | b".\r\n" | b".") {
            break;
        }
        at += line.len();
    }
    text.get(..at).unwrap_or(text)
}

/// Reads the header, takes Bcc out, puts in what is missing.
///
/// # Errors
/// When it has no header at all and is not empty.
pub fn prepare(input: &[u8], missing: &Missing) -> anyhow::Result<Message> {
    let lines: Vec<&[u8]> = input.split_inclusive(|b| *b == b'\n').collect();
    let mut head = lines.iter().take_while(|l| !matches!(l.trim_ascii_end(), b"")).count();
    // cron and the like send a body without a header.
    if let Some(n) = lines.iter().take(head).position(|l| !is_field(l) && !l.starts_with(b" ") && !l.starts_with(b"\t")) {
        head = n;
    }
    let header: Vec<u8> = lines.iter().take(head).copied().flatten().copied().collect();
    let parsed = MessageParser::default().parse(&header);
    let mut message = Message::default();
    if let Some(m) = &parsed {
        for list in [m.to(), m.cc(), m.bcc()].into_iter().flatten() {
            message.named.extend(addresses(list));
        }
        message.from = m.from().and_then(|a| addresses(a).into_iter().next());
        message.subject = m.subject().unwrap_or_default().to_string();
        message.message_id = m.message_id().unwrap_or_default().to_string();
    }
    let mut skipping = false;
    for line in lines.iter().take(head) {
        let folded = line.starts_with(b" ") || line.starts_with(b"\t");
        skipping = if folded { skipping } else { name_of(line).is_some_and(|n| n.eq_ignore_ascii_case(b"bcc")) };
        if !skipping {
            message.text.extend_from_slice(line);
        }
    }
    let has = |name: &str| lines.iter().take(head).any(|l| name_of(l).is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes())));
    if !has("from") {
        if missing.from.bytes().chain(missing.full_name.unwrap_or_default().bytes()).any(|b| b.is_ascii_control()) {
            bail!("control characters in the sender's name");
        }
        let line = match missing.full_name {
            Some(name) => format!("From: \"{}\" <{}>\r\n", name.replace('\\', "\\\\").replace('"', "\\\""), missing.from),
            None => format!("From: {}\r\n", missing.from),
        };
        message.text.extend_from_slice(line.as_bytes());
    }
    if !has("date") {
        message.text.extend_from_slice(format!("Date: {}\r\n", missing.date).as_bytes());
    }
    if !has("message-id") {
        message.message_id = missing.message_id.to_string();
        message.text.extend_from_slice(format!("Message-ID: <{}>\r\n", missing.message_id).as_bytes());
    }
    let body = lines.get(head..).unwrap_or_default();
    if body.first().is_none_or(|l| !l.trim_ascii_end().is_empty()) {
        message.text.extend_from_slice(b"\r\n");
    }
    message.text.extend(body.iter().copied().flatten());
    Ok(message)
}

fn name_of(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|b| *b == b':')?;
    line.get(..colon).map(<[u8]>::trim_ascii_end).filter(|n| !n.is_empty() && n.iter().all(|b| matches!(b, 33..=126)))
}

fn is_field(line: &[u8]) -> bool {
    name_of(line).is_some()
}

fn addresses(list: &Address) -> Vec<String> {
    list.iter().filter_map(|a| a.address()).map(|a| a.trim().to_string()).filter(|a| !a.is_empty()).collect()
}

/// An address that can stand in MAIL and RCPT; what mutt and cron give is taken as it is.
///
/// # Errors
/// When it holds what would end the path or the command.
pub fn checked(address: &str) -> anyhow::Result<String> {
    let bare = address.trim().trim_start_matches('<').trim_end_matches('>');
    let (local, quoted) = (bare.rsplit_once('@').map_or(bare, |(l, _)| l), bare.starts_with('"'));
    let odd = |c: char| c.is_control() || matches!(c, '<' | '>') || (!quoted && matches!(c, ' ' | ',' | '"' | '(' | ')' | ';'));
    if bare.contains(odd) || (quoted && !(local.len() > 1 && local.ends_with('"'))) || bare.len() > 320 {
        bail!("`{}` is no address", super::super::text::clean(address));
    }
    Ok(bare.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: Missing = Missing { from: "me@h.test", full_name: None, date: "DATE", message_id: "id@h.test" };

    fn text(m: &Message) -> String {
        String::from_utf8_lossy(&m.text).into_owned()
    }

    #[test]
    fn bcc_is_read_and_taken_out_with_its_folds() {
        let m = prepare(b"From: A <a@a.test>\nTo: b@b.test, C <c@c.test>\nBcc: d@d.test,\n  e@e.test\nSubject: x\nDate: y\nMessage-ID: <z@a.test>\n\nbody\n", &MISSING).unwrap();
        assert_eq!(m.named, ["b@b.test", "c@c.test", "d@d.test", "e@e.test"]);
        assert_eq!(text(&m), "From: A <a@a.test>\nTo: b@b.test, C <c@c.test>\nSubject: x\nDate: y\nMessage-ID: <z@a.test>\n\nbody\n");
        assert_eq!((m.from.as_deref(), m.subject.as_str(), m.message_id.as_str()), (Some("a@a.test"), "x", "z@a.test"));
    }

    #[test]
    fn what_is_missing_is_put_in() {
        let m = prepare(b"To: b@b.test\n\nhi\n", &MISSING).unwrap();
        assert_eq!(text(&m), "To: b@b.test\nFrom: me@h.test\r\nDate: DATE\r\nMessage-ID: <id@h.test>\r\n\nhi\n");
        let m = prepare(b"just a body\n", &Missing { full_name: Some("Cron \"d\""), ..MISSING }).unwrap();
        assert!(
            text(&m).ends_with("From: \"Cron \\\"d\\\"\" <me@h.test>\r\nDate: DATE\r\nMessage-ID: <id@h.test>\r\n\r\njust a body\n"),
            "{m:?}"
        );
        assert!(prepare(b"", &MISSING).is_ok());
        assert!(prepare(b"x", &Missing { from: "a\r\nBcc: b@c", ..MISSING }).is_err());
    }

    #[test]
    fn a_lone_dot_ends_a_message_that_is_typed() {
        assert_eq!(until_dot(b"a\n.\nb\n"), b"a\n");
        assert_eq!(until_dot(b"a\n..\nb"), b"a\n..\nb");
        assert_eq!(until_dot(b"."), b"");
    }

    #[test]
    fn addresses_that_would_end_the_command_are_none() {
        for bad in ["a@b> SIZE=1", "a b@c", "a@b\r\nDATA", "\"a@b", "a,b@c"] {
            assert!(checked(bad).is_err(), "{bad}");
        }
        for good in ["a@b", "<a@b>", "\"a b\"@c", "root", "j\u{f6}rg@b\u{fc}cher.test"] {
            assert!(checked(good).is_ok(), "{good}");
        }
    }
}
