//! Messages out of a stream of bytes (RFC 6587), fed in chunks of any size. Does no I/O.
//!
//! Octet counting (`17 <13>some message`) and newlines may change from message to message: a message
//! that begins with a number and a space is counted, any other ends at its newline.

/// Digits that a length may have; a longer number is text.
const MAX_DIGITS: usize = 9;

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By newlines only.
    Newline,
    /// By octet counts where there are any, else by newlines or NUL (RFC 6587).
    Syslog,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    /// A number so far.
    Count(usize),
    /// So many bytes follow.
    Octets(usize),
    Line,
}

/// Takes bytes, gives messages. Holds at most one message of `max` bytes.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    max: usize,
    state: State,
    message: Vec<u8>,
    /// Bytes of this message were dropped.
    over: bool,
    cut: u64,
}

impl Decoder {
    /// Messages of at most `max` bytes; longer ones are cut.
    pub fn new(framing: Framing, max: usize) -> Decoder {
        Decoder { framing, max: max.max(MAX_DIGITS), state: State::Start, message: Vec::new(), over: false, cut: 0 }
    }

    /// How many messages were cut.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Takes a chunk; appends the messages that it ends to `out`, without newline.
    pub fn feed(&mut self, mut input: &[u8], out: &mut Vec<Vec<u8>>) {
        while let Some((&first, rest)) = input.split_first() {
            match self.state {
                State::Start if self.framing == Framing::Newline => self.state = State::Line,
                State::Start if matches!(first, b'\n' | b'\r' | 0 | b' ') => input = rest,
                State::Start => self.state = if (b'1'..=b'9').contains(&first) { State::Count(0) } else { State::Line },
                State::Count(n) => {
                    if first.is_ascii_digit() && self.message.len() < MAX_DIGITS {
                        self.message.push(first);
                        self.state = State::Count(n * 10 + usize::from(first - b'0'));
                        input = rest;
                    } else if first == b' ' {
                        self.message.clear();
                        self.state = State::Octets(n);
                        input = rest;
                    } else {
                        self.state = State::Line; // the number is the message's beginning
                    }
                }
                State::Octets(left) => {
                    let (part, after) = input.split_at_checked(left).unwrap_or((input, &[]));
                    self.keep(part);
                    input = after;
                    self.state = State::Octets(left - part.len());
                    if left == part.len() {
                        self.end(out);
                    }
                }
                State::Line => {
                    let end = match self.framing {
                        Framing::Newline => memchr::memchr(b'\n', input),
                        Framing::Syslog => memchr::memchr2(b'\n', 0, input),
                    };
                    self.keep(input.get(..end.unwrap_or(input.len())).unwrap_or_default());
                    input = end.and_then(|at| input.get(at + 1..)).unwrap_or_default();
                    if end.is_some() {
                        self.end(out);
                    }
                }
            }
        }
    }

    /// The stream has ended. A line without newline counts; of a counted message that was cut off, what came of it.
    pub fn finish(&mut self, out: &mut Vec<Vec<u8>>) {
        if !self.message.is_empty() {
            self.over |= matches!(self.state, State::Octets(_));
            self.end(out);
        }
    }

    fn keep(&mut self, part: &[u8]) {
        let room = self.max.saturating_sub(self.message.len());
        self.message.extend_from_slice(part.get(..room).unwrap_or(part));
        self.over |= part.len() > room;
    }

    fn end(&mut self, out: &mut Vec<Vec<u8>>) {
        self.cut += u64::from(std::mem::take(&mut self.over));
        self.state = State::Start;
        let mut message = std::mem::take(&mut self.message);
        if self.framing == Framing::Syslog {
            let end = message.iter().rposition(|b| !matches!(b, b'\n' | b'\r' | 0)).map_or(0, |n| n + 1);
            message.truncate(end);
        }
        if !message.is_empty() {
            out.push(message);
        }
    }
}
