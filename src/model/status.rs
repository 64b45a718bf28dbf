//! The status of a recipient (RFC 3463): as the log gives it, else read from the reply, else by the action; its class must
//! say what the action says (RFC 3886, 3.3.4).

use super::event::{Action, Event, Field, Kind};

/// The status of an outcome: as logged, or as the reply says, if its class says what the action says (RFC 3886, 3.3.4).
/// A client's command or message that was refused may be refused for now only; what an MTA gave up is failed for good.
pub(super) fn status_of(action: Action, e: &Event, said: Option<&str>) -> String {
    let result = e.get(Field::Result).unwrap_or_default();
    let refused =
        e.head.kind == Kind::Reject || e.get(Field::Command).is_some() || (e.head.kind == Kind::Final && result.ends_with(b"reject"));
    let logged = e.text(Field::Status).filter(|s| !s.is_empty());
    let status = logged.or_else(|| said.and_then(enhanced_status)).filter(|s| status_fits(action, s, refused));
    let code = e.get(Field::ReplyCode).and_then(|c| c.first().copied()).or_else(|| said.and_then(|s| s.bytes().next()));
    let for_now = refused && (code == Some(b'4') || result.starts_with(b"temp"));
    status.unwrap_or_else(|| default_status(action, for_now).into())
}

/// The first `d.d.d` of a reply that stands where a status stands: at the beginning, or behind a reply code.
fn enhanced_status(text: &str) -> Option<String> {
    let word_at = |at: usize| text.get(at..)?.split([' ', ')', ';']).next().filter(|w| is_status(w)).map(str::to_string);
    if let Some(status) = word_at(0) {
        return Some(status);
    }
    for (at, _) in text.match_indices(' ') {
        let before = text.get(at.checked_sub(3)?.min(at)..at);
        let code = before.is_some_and(|b| b.len() == 3 && b.bytes().all(|c| c.is_ascii_digit()) && b.starts_with(['2', '4', '5']));
        if code && let Some(status) = word_at(at + 1) {
            return Some(status);
        }
    }
    None
}

/// Whether a word is an enhanced status code (RFC 3463): `2`, `4` or `5`, and two numbers of at most three digits.
pub fn is_status(word: &str) -> bool {
    let mut parts = word.split('.');
    let digits = |p: Option<&str>, max| p.is_some_and(|p| !p.is_empty() && p.len() <= max && p.bytes().all(|b| b.is_ascii_digit()));
    word.starts_with(['2', '4', '5'])
        && digits(parts.next(), 1)
        && digits(parts.next(), 3)
        && digits(parts.next(), 3)
        && parts.next().is_none()
}

fn status_fits(action: Action, status: &str, refused: bool) -> bool {
    match action {
        Action::Delivered | Action::Relayed | Action::Expanded | Action::Transferred | Action::Opaque => status.starts_with('2'),
        Action::Delayed => status.starts_with('4'),
        Action::Failed => status.starts_with('5') || (refused && status.starts_with('4')),
    }
}

/// See the table of actions in the crate's description. A refusal may be for now only.
pub(super) fn default_status(action: Action, for_now: bool) -> &'static str {
    match action {
        Action::Delivered | Action::Opaque | Action::Expanded => "2.0.0",
        Action::Relayed | Action::Transferred => "2.4.0",
        Action::Delayed => "4.0.0",
        Action::Failed if for_now => "4.0.0",
        Action::Failed => "5.0.0",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_stands_behind_a_reply_code() {
        assert_eq!(enhanced_status("host x said: 450 4.3.0 temporary").as_deref(), Some("4.3.0"));
        assert_eq!(enhanced_status("to 1.2.3 or 4.5.6"), None);
        assert_eq!(enhanced_status("5.7.1 header rejected").as_deref(), Some("5.7.1"));
        assert_eq!(enhanced_status("550 nope"), None);
        assert_eq!(enhanced_status("x"), None);
    }
}
