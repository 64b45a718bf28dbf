//! MTQP: commands, responses, sessions, URLs, and the answers' text.

use msgtrk::mtqp::command::{self, Command};
use msgtrk::mtqp::reply::{Reader, Reply, ReplyError};
use msgtrk::mtqp::session::{RequireTls, Rules, Session, StartTls, Step, Transport};
use msgtrk::mtqp::uri::Uri;
use msgtrk::trkstat;

/// A command line: what is read as TRACK is printable, and reads the same when it is written again.
pub fn command(data: &[u8]) {
    if let Ok(Command::Track(c)) = command::parse(data) {
        let again = format!("TRACK {} {}", c.envelope_id, c.secret.to_base64());
        // `<<a>>` loses a pair of brackets each time; all else stays.
        if !c.envelope_id.starts_with('<') {
            assert_eq!(command::parse(again.as_bytes()), Ok(Command::Track(c)));
        }
    }
}

fn replies(data: &[u8], chunk: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let mut reader = Reader::new(1 << 16);
    let mut all = Vec::new();
    for piece in data.chunks(chunk) {
        reader.feed(piece);
        loop {
            match reader.next_reply() {
                Ok(Some(r)) => all.push(r),
                Ok(None) => break,
                Err(e) => return (all, Some(e)),
            }
        }
    }
    (all, None)
}

/// Responses: the same whatever the chunks.
pub fn reply(data: &[u8]) {
    let whole = replies(data, data.len().max(1));
    let chunk = usize::from(data.first().copied().unwrap_or(1)).max(1);
    assert_eq!(whole, replies(data, chunk));
    whole.0.iter().for_each(|r| drop(r.options()));
}

fn dialogue(data: &[u8], chunk: usize) -> Vec<Step> {
    let rules =
        Rules { starttls: StartTls::Offered, require_tls: RequireTls::Never, out_of_service: None, max_commands: 50, max_bad_commands: 10 };
    let mut session = Session::new(&rules, Transport::Plain);
    let mut steps = Vec::new();
    for piece in data.chunks(chunk) {
        session.feed(piece);
        while let Some(step) = session.next_step() {
            steps.push(step);
            if matches!(steps.last(), Some(Step::StartTls(_))) {
                return steps;
            }
        }
    }
    steps
}

/// A session: the same whatever the chunks, one line a response, nothing behind the end.
pub fn session(data: &[u8]) {
    let whole = dialogue(data, data.len().max(1));
    let chunk = usize::from(data.first().copied().unwrap_or(1)).max(1);
    assert_eq!(whole, dialogue(data, chunk));
    for (n, step) in whole.iter().enumerate() {
        match step {
            Step::Reply(line) => assert!(line.ends_with(b"\r\n") && line.iter().filter(|b| **b == b'\n').count() == 1),
            Step::Close(_) => assert_eq!(n + 1, whole.len()),
            _ => {}
        }
    }
}

/// A URL: what is read is written and read the same; nothing in it can end a command line.
pub fn uri(data: &[u8]) {
    let Ok(uri) = String::from_utf8_lossy(data).parse::<Uri>() else { return };
    let line = format!("TRACK {} {}", uri.claim.envelope_id, uri.claim.secret.to_base64());
    assert!(line.len() <= command::MAX_LINE && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()));
    if !uri.claim.envelope_id.starts_with('<') {
        assert_eq!(uri.to_string().parse::<Uri>(), Ok(uri));
    }
}

/// An answer: whatever is read and the strict writer takes, is read the same again.
pub fn trkstat(data: &[u8]) {
    let Ok(parts) = trkstat::read(data) else { return };
    for part in parts {
        let Ok(lines) = trkstat::write(std::slice::from_ref(&part)) else { continue };
        assert!(lines.iter().all(|l| l.len() <= trkstat::MAX_LINE));
        assert_eq!(trkstat::read(lines.join("\r\n").as_bytes()), Ok(vec![part]));
    }
}
