//! Status codes (RFC 3463) in a text, and SMTP reply codes (RFC 5321, 4.2.3) where there is none.

use crate::model::event::Action;
pub(super) use crate::model::status::is_status;

/// Where a claim's status comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFrom {
    /// The report gives it.
    Given,
    /// It stands in the diagnostic.
    Diagnostic,
    /// Made from an SMTP reply code.
    SmtpCode,
    /// Made from words.
    Text,
    /// Only the class is known, from the action.
    Action,
}

impl StatusFrom {
    /// The word in JSON and events; `None` where the report itself gives the status.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            StatusFrom::Given => None,
            StatusFrom::Diagnostic => Some("diagnostic"),
            StatusFrom::SmtpCode => Some("smtp code"),
            StatusFrom::Text => Some("text"),
            StatusFrom::Action => Some("action"),
        }
    }
}

/// The first status code of a text: `d.d.d` that is no part of an address or a longer number.
pub(super) fn enhanced(text: &str) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(dot) = memchr::memchr(b'.', bytes.get(from..)?).map(|n| n + from) {
        from = dot + 1;
        let Some(start) = dot.checked_sub(1).filter(|s| bytes.get(*s).is_some_and(|b| matches!(b, b'2' | b'4' | b'5'))) else { continue };
        let part = |b: &u8| b.is_ascii_digit() || *b == b'.';
        if start > 0 && bytes.get(start - 1).is_some_and(|b| part(b) || b.is_ascii_alphabetic() || *b == b'-') {
            continue;
        }
        let len = bytes.get(start..)?.iter().take_while(|b| part(b)).count();
        let word = text.get(start..start + len)?.trim_end_matches('.');
        let after = bytes.get(start + word.len());
        if is_status(word) && !after.is_some_and(|b| b.is_ascii_alphabetic() || *b == b'-') {
            return Some(word);
        }
    }
    None
}

/// The first SMTP reply code of a text: three digits that stand alone, where a reply begins.
pub(super) fn smtp_code(text: &str) -> Option<u16> {
    let bytes = text.as_bytes();
    for (at, window) in bytes.windows(3).enumerate() {
        let code = window.first().is_some_and(|b| matches!(b, b'2' | b'4' | b'5')) && window.iter().all(u8::is_ascii_digit);
        if !code || !window.get(1).is_some_and(|b| (b'0'..=b'5').contains(b)) {
            continue;
        }
        let before = at.checked_sub(1).and_then(|i| bytes.get(i));
        let open = before.is_none_or(|b| matches!(b, b' ' | b':' | b'>' | b'(' | b'"' | b'\'' | b'#' | b'\n' | b'\t' | b',' | b'='));
        let closed = bytes.get(at + 3).is_none_or(|b| matches!(b, b' ' | b'-' | b':' | b',' | b'\n' | b')' | b'#' | b'"'));
        if open && closed {
            return text.get(at..at + 3)?.parse().ok();
        }
    }
    None
}

/// What a reply code alone says, in the terms of RFC 3463. Only what RFC 5321 says of the code.
pub(super) fn of_smtp_code(code: u16) -> Option<&'static str> {
    Some(match code {
        421 => "4.3.2",
        450 => "4.2.0",
        451 => "4.3.0",
        452 => "4.3.1",
        455 | 500..=504 => "5.5.0",
        550 => "5.2.0",
        551 => "5.1.6",
        552 => "5.2.2",
        553 => "5.1.3",
        554 => "5.0.0",
        400..=499 => "4.0.0",
        500..=599 => "5.0.0",
        200..=299 => "2.0.0",
        _ => return None,
    })
}

/// The class alone.
pub(super) fn of_action(action: Option<Action>) -> &'static str {
    match action {
        Some(Action::Failed) => "5.0.0",
        Some(Action::Delayed) => "4.0.0",
        _ => "2.0.0",
    }
}

/// The class of a status as an action, where a report names none.
pub(super) fn action_of(status: &str) -> Option<Action> {
    match status.as_bytes().first()? {
        b'2' => Some(Action::Delivered),
        b'4' => Some(Action::Delayed),
        b'5' => Some(Action::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_where_they_stand_and_nowhere_else() {
        assert_eq!(enhanced("550 5.1.1 <a@b>: no"), Some("5.1.1"));
        assert_eq!(enhanced("#5.1.1."), Some("5.1.1"));
        assert_eq!(enhanced("(#4.4.1)"), Some("4.4.1"));
        assert_eq!(enhanced("host 192.5.1.1 said 10.5.1.1.2"), None);
        assert_eq!(enhanced("version 5.1.1a or 5.1.1-2"), None);
        assert_eq!(enhanced("x5.1.1"), None);
        assert_eq!(smtp_code("host said: 550 no"), Some(550));
        assert_eq!(smtp_code("port 5500, 599x, a550 b"), None);
        assert_eq!(smtp_code("552"), Some(552));
        assert_eq!(of_smtp_code(552), Some("5.2.2"));
    }
}
