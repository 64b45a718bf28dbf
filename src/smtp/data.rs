//! The content of a message behind DATA: passed on as it is, and its end found.
//!
//! Servers differ in what they take for the end of a message: some take a lone dot between bare LFs, between bare CRs,
//! or behind a NUL. What two servers read differently lets a sender hide a second message in a first (SMTP smuggling).
//! Here only CR LF `.` CR LF ends a message, and a message with any other lone dot on a line of its own is refused before
//! the dot has been passed on, so that no backend can see an end where the gateway sees none.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// All bytes are content so far.
    More,
    /// The end; bytes behind it are the next command.
    End,
    /// A lone dot that only some servers take for the end.
    Smuggled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Behind a CR that no LF followed yet.
    Cr,
    /// At the start of a line, as somebody may see it; `true` where everybody does.
    Start(bool),
    /// Behind a dot at a line's start, which is held back.
    Dot(bool),
    /// Behind a dot and a CR.
    DotCr(bool),
}

/// Finds the end of a message in pieces of any size.
#[derive(Debug)]
pub struct Content {
    state: State,
    /// A dot, and NULs behind it, not passed on yet.
    held: Vec<u8>,
    /// Bytes seen.
    pub bytes: u64,
}

impl Default for Content {
    fn default() -> Self {
        Content { state: State::Start(true), held: Vec::new(), bytes: 0 }
    }
}

/// NULs behind a dot that are borne.
const MAX_HELD: usize = 64;

impl Content {
    /// Takes bytes, puts into `out` what may be passed on, and says how many it took.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> (usize, Found) {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
            if self.state == State::Text {
                // Nothing matters before the line's end.
                let end = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                out.extend_from_slice(rest.get(..end).unwrap_or_default());
                at += end;
                if end == rest.len() {
                    break;
                }
            }
            let Some(&b) = bytes.get(at) else { break };
            at += 1;
            match self.step(b, out) {
                Found::More => {}
                found => {
                    self.bytes += at as u64;
                    return (at, found);
                }
            }
        }
        self.bytes += at as u64;
        (at, Found::More)
    }

    fn step(&mut self, b: u8, out: &mut Vec<u8>) -> Found {
        self.state = match (self.state, b) {
            (State::DotCr(true), b'\n') => {
                out.extend_from_slice(b".\r\n");
                return Found::End;
            }
            (State::DotCr(_), _) | (State::Dot(_), b'\n') => return Found::Smuggled,
            (State::Dot(strict), b'\r') => State::DotCr(strict),
            (State::Dot(_), 0) if self.held.len() < MAX_HELD => {
                self.held.push(0);
                return self.hold();
            }
            (State::Dot(_), 0) => return Found::Smuggled,
            (State::Dot(_), _) => {
                out.append(&mut self.held);
                out.push(b);
                State::Text
            }
            (State::Start(strict), b'.') => {
                self.held.push(b'.');
                State::Dot(strict)
            }
            (State::Cr, b'.') => {
                self.held.push(b'.');
                State::Dot(false)
            }
            (State::Start(_), 0) | (State::Cr, 0) => {
                out.push(0);
                State::Start(false)
            }
            (before, _) => {
                out.push(b);
                match b {
                    b'\r' => State::Cr,
                    b'\n' => State::Start(before == State::Cr),
                    _ => State::Text,
                }
            }
        };
        Found::More
    }

    fn hold(&mut self) -> Found {
        self.state = State::Dot(false);
        Found::More
    }
}
