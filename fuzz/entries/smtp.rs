//! SMTP: command lines, replies, content, and both sides of a session.

use msgtrk::smtp::command::{self, Mark, bdat, envelope, from_xtext, remarked, verb};
use msgtrk::smtp::data::{Content, Found};
use msgtrk::smtp::reply::{MAX_LINES, Offer, Own, Reply, ReplyError, ReplyReader, rewritten};
use msgtrk::smtp::session::{MAX_BUFFER, MAX_DUE, Policy, Session, Step};

/// A command line: a mark that is read has the form it must have, and taken off it leaves the rest.
pub fn line(data: &[u8]) {
    let _ = (verb(data), bdat(data));
    let Some(e) = envelope(data) else { return };
    let without = remarked(&e, None);
    assert!(without.starts_with(e.head));
    if let Ok(Some(mark)) = Mark::of(&e.params) {
        assert!(mark.certifier.len() == 27 && mark.envelope_id.len() <= command::MAX_ENVID && mark.timeout != Some(0));
        assert!(from_xtext(mark.envelope_id.as_bytes()).is_some());
        let again = envelope(&without).expect("still a MAIL");
        assert_eq!((Mark::of(&again.params), again.address), (Ok(None), e.address));
    }
}

fn replies(data: &[u8], chunk: usize) -> (Vec<Reply>, Option<ReplyError>) {
    let mut reader = ReplyReader::default();
    let mut all = Vec::new();
    for piece in data.chunks(chunk.max(1)) {
        reader.push(piece);
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

/// Replies: the same whatever the chunks, and rewritten they are one reply still.
pub fn reply(data: &[u8]) {
    let (all, error) = replies(data, data.len());
    let chunk = usize::from(data.first().copied().unwrap_or(1));
    assert_eq!(replies(data, chunk).0, all);
    assert_eq!(replies(data, chunk).1.is_some(), error.is_some());
    for r in all {
        assert!(r.raw.split(|b| *b == b'\n').count() <= MAX_LINES + 1);
        let _ = Offer::of(&r);
        for mtrk in [true, false] {
            let mine = rewritten(&r, Own { mtrk, starttls: mtrk, auth: false });
            assert_eq!(replies(&mine, 7).0.len(), 1, "{}", mine.escape_ascii());
        }
    }
}

/// What some server may take for the end of a message: a dot alone between CRs, LFs and NULs.
fn ends_for_somebody(text: &[u8]) -> bool {
    let plain: Vec<u8> = text.iter().copied().filter(|b| *b != 0).map(|b| if b == b'\r' { b'\n' } else { b }).collect();
    plain.starts_with(b".\n") || plain.windows(3).any(|w| w == b"\n.\n")
}

/// Content: what is passed on is what came, whatever the chunks, and holds no end that only some servers see.
pub fn content(data: &[u8]) {
    let chunk = usize::from(data.first().copied().unwrap_or(1)).max(1);
    let (mut content, mut out, mut taken, mut end) = (Content::default(), Vec::new(), 0, Found::More);
    for piece in data.chunks(chunk) {
        let (n, found) = content.feed(piece, &mut out);
        taken += n;
        end = found;
        if found != Found::More {
            break;
        }
    }
    assert!(data.starts_with(&out));
    let inside = if end == Found::End { out.len() - 3 } else { out.len() };
    assert!(!ends_for_somebody(out.get(..inside).expect("inside")), "{}", out.escape_ascii());
    if end == Found::End {
        assert!(out.ends_with(b".\r\n") && taken == out.len());
    }
}

/// Both sides of a session: the first byte of each piece says whose it is and how long it is. Buffers stay bounded; after
/// the end nothing is said to anybody.
pub fn session(data: &[u8]) {
    let mut s = Session::new(Policy { starttls: true, ..Policy::default() }, false);
    let mut rest = data;
    let mut over = false;
    while let Some((first, behind)) = rest.split_first() {
        let (piece, after) = behind.split_at(usize::from(first >> 1).min(behind.len()));
        rest = after;
        match first & 1 {
            0 if s.wants_client() => s.client(piece, 0),
            1 if s.wants_backend() => s.backend(piece, 0),
            _ => {}
        }
        assert!(!over || (s.to_backend().is_empty() && s.to_client().is_empty()), "it spoke after the end");
        assert!(s.to_backend().len() <= MAX_BUFFER + MAX_DUE * (command::MAX_AUTH_LINE + 2));
        s.to_backend().clear();
        s.to_client().clear();
        s.drained(0);
        while let Some(step) = s.step() {
            match step {
                Step::StartTls => s.secured(),
                Step::Close { .. } => over = true,
                Step::Accepted(a) => assert!((200..300).contains(&String::from_utf8_lossy(&a.reply[..3]).parse::<u16>().expect("code"))),
            }
        }
    }
    s.client_eof();
    s.backend_eof();
}
