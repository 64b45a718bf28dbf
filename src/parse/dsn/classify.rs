//! What is no bounce, however much it looks like one: auto-replies (RFC 3834), vacation, lists, challenges.

use super::mime::Head;

/// Why a mail is no report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Other {
    /// An automatic answer of a person's account: vacation, out of office (RFC 3834).
    AutoReply,
    /// Asks the sender to prove that he is a person.
    Challenge,
    /// A newsletter or a mailing list's mail.
    List,
    /// A report without any recipient, or with a part that cannot be read.
    Empty,
    /// Any other mail.
    Mail,
    /// No mail at all.
    NoMail,
}

impl Other {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Other::AutoReply => "an automatic reply, no report",
            Other::Challenge => "a challenge to the sender, no report",
            Other::List => "a list's mail, no report",
            Other::Empty => "a report that names no recipient",
            Other::Mail => "no report",
            Other::NoMail => "no mail",
        }
    }
}

/// Fields that only answering machines set.
const ANSWERS: [&str; 7] =
    ["x-autoreply", "x-autorespond", "x-autoresponder", "x-autoreply-from", "x-mail-autoreply", "x-vacation", "x-fc-machinegenerated"];
/// Fields that only lists and mass mailers set.
const LISTS: [&str; 4] = ["list-id", "list-unsubscribe", "list-post", "list-help"];
/// How subjects of answers begin, in lower case, behind any `Re:`.
const ANSWER_SUBJECTS: [&str; 16] = [
    "auto:",
    "autoreply",
    "auto-reply",
    "auto reply",
    "automatic reply",
    "automatic response",
    "automated reply",
    "automatische antwort",
    "abwesenheit",
    "out of office",
    "out of the office",
    "away from my mail",
    "on vacation",
    "vacation",
    "réponse automatique",
    "respuesta automática",
];
/// What subjects of challenges hold, in lower case.
const CHALLENGE_SUBJECTS: [&str; 6] = [
    "please confirm your message",
    "confirm your message",
    "confirmation required for your message",
    "sender verification",
    "verify your email to",
    "your email requires verification",
];

/// Whether the header alone says that a mail is no report. Asked only once no report part was found.
pub(super) fn is_other(head: Head) -> Option<Other> {
    let text = |name| head.first(name).unwrap_or_default().to_lowercase();
    if LISTS.iter().any(|n| head.has(n)) {
        return Some(Other::List);
    }
    let mut subject = text("subject");
    while let Some(rest) = ["re:", "aw:", "fwd:", "fw:"].iter().find_map(|p| subject.strip_prefix(p)) {
        subject = rest.trim_start().to_string();
    }
    let challenged = head.fields().any(|(n, _)| {
        let n = n.to_ascii_lowercase();
        n.starts_with(b"x-tmda") || n.starts_with(b"x-challenge") || n.starts_with(b"x-boxtrapper")
    });
    if challenged || CHALLENGE_SUBJECTS.iter().any(|s| subject.contains(s)) {
        return Some(Other::Challenge);
    }
    let answers = ANSWERS.iter().any(|n| head.has(n)) || text("precedence").contains("auto_reply");
    let vacation = text("auto-submitted").contains("vacation");
    if answers || vacation || ANSWER_SUBJECTS.iter().any(|s| subject.starts_with(s)) {
        return Some(Other::AutoReply);
    }
    None
}

/// Whether a mail's header is one of a bounce: made by a mail system, for nobody to answer.
pub(super) fn is_from_daemon(head: Head) -> bool {
    let null = head.first("return-path").is_some_and(|v| v.trim() == "<>");
    let from = head.first("from").unwrap_or_default().to_lowercase();
    let daemon = ["mailer-daemon", "mailerdaemon", "mail-daemon", "postmaster", "mail delivery", "<>", "post_master"]
        .iter()
        .any(|w| from.contains(w));
    null || daemon || head.has("x-failed-recipients")
}
