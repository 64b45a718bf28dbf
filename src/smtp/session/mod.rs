//! The gateway between a client and a backend, without I/O: bytes of both sides in, bytes for both sides out (RFC 5321,
//! 2033, 2920, 3030, 3885).
//!
//! Commands go to the backend as they come, replies to the client as they come. What is kept is the row of replies that
//! are due (`Due`): each reply of the backend belongs to the first of them, and what the gateway answers itself stands in
//! the row at its place, so that pipelining keeps its order. The gateway never says yes for the backend.
//!
//! Where a reply decides how the client's next bytes are to be read (DATA, AUTH, EHLO, STARTTLS) the client's bytes wait for
//! it. A reply that would change what the *backend* reads (3xx) and is not due ends the session: then both sides never
//! read the same bytes in two ways.

use super::command::Mark;
use super::data::Content;
use super::reply::{Offer, ReplyReader};
use std::collections::VecDeque;

mod backend;
mod client;

/// Replies due at once; beyond that the client's bytes wait.
pub const MAX_DUE: usize = 256;
/// Bytes on their way to one side; beyond that no more are taken from the other.
pub const MAX_BUFFER: usize = 256 << 10;
/// Recipients of a marked message that are noted.
pub const MAX_RECIPIENTS: usize = 1_000;
/// Commands that the gateway itself refuses in a session.
pub const MAX_BAD: u32 = 20;

/// What a session may do.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    /// STARTTLS is offered.
    pub starttls: bool,
    /// AUTH is passed on outside TLS, too.
    pub auth_in_clear: bool,
    /// LMTP: one reply a recipient after the content (RFC 2033).
    pub lmtp: bool,
    /// `XCLIENT` attributes to tell the backend first (`ADDR=192.0.2.1 PORT=4711`).
    pub xclient: Option<String>,
    /// What the gateway calls itself towards the backend, where it must speak first.
    pub name: String,
}

/// A marked message that the backend took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The mark.
    pub mark: Mark,
    /// Sender as in MAIL, without angle brackets.
    pub sender: Vec<u8>,
    /// Recipients that the backend took, and their ORCPT as sent.
    pub recipients: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The backend's last word, in one line.
    pub reply: Vec<u8>,
    /// Microseconds since 1970 at which the message was surely in the backend's hands and surely not yet through.
    pub at: i64,
}

/// What is to be done beside writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// When all is written: the TLS handshake; then [`Session::secured`]. What the client sent before is void.
    StartTls,
    /// Note this.
    Accepted(Box<Accepted>),
    /// When all is written: the end. `lost` says that it was no proper one, and why.
    Close {
        /// Why, where something went wrong.
        lost: Option<&'static str>,
    },
}

/// Whom the session waits for; each has its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// A command.
    Client,
    /// Content; so many bytes came.
    Content(u64),
    /// A reply.
    Backend,
    /// The reply to a message.
    Final,
    /// Nobody: it is over, or a handshake is due.
    Nobody,
}

/// A reply that is due.
#[derive(Debug, Clone)]
enum Due {
    Greeting,
    /// The gateway's own EHLO before XCLIENT.
    OwnHello,
    /// XCLIENT is answered by a new greeting.
    XclientGreeting,
    Hello {
        extended: bool,
    },
    Mail(Box<Transaction>),
    Rcpt(Vec<u8>, Option<Vec<u8>>),
    Data,
    /// One reply to the content.
    Final,
    Chunk {
        last: bool,
    },
    Reset,
    Auth,
    Quit,
    Other,
    /// Not for the client.
    Hidden,
    /// The gateway's own word.
    Own(Vec<u8>),
    /// The gateway's yes to STARTTLS.
    StartTls,
}

#[derive(Debug, Clone, Default)]
struct Transaction {
    mark: Option<Mark>,
    sender: Vec<u8>,
    recipients: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Recipients that the backend took.
    taken: usize,
    /// LMTP: recipients whose last word came.
    told: usize,
    at: i64,
}

/// How the client's next bytes are read.
#[derive(Debug)]
enum Input {
    Command,
    /// Not before a reply.
    Wait,
    Content(Content),
    Chunk {
        left: u64,
        seen: u64,
    },
    AuthLine,
    /// The rest of a line that was too long.
    Skip,
    /// A handshake is due: all that comes is void.
    Void,
    Over,
}

/// The state between one client and its backend.
#[derive(Debug)]
pub struct Session {
    policy: Policy,
    /// The client's connection is encrypted.
    secure: bool,
    input: Input,
    bytes: Vec<u8>,
    at: usize,
    replies: ReplyReader,
    due: VecDeque<Due>,
    offer: Offer,
    /// The backend was asked, and offers no AUTH.
    no_auth: bool,
    transaction: Option<Transaction>,
    to_client: Vec<u8>,
    to_backend: Vec<u8>,
    steps: VecDeque<Step>,
    bad: u32,
    turns: u64,
    replied: u64,
    client_gone: bool,
    backend_gone: bool,
}

const BACKEND_GONE: &[u8] = b"421 4.3.2 The mail system is not available, try again later\r\n";
const BACKEND_ODD: &[u8] = b"421 4.3.0 The mail system answered what is no SMTP, try again later\r\n";
const BACKEND_SLOW: &[u8] = b"421 4.4.2 The mail system did not answer in time, try again later\r\n";
const CLIENT_SLOW: &[u8] = b"421 4.4.2 Timeout\r\n";

impl Session {
    /// A session between a client and a backend that were both just connected. `secure`: the client's connection is TLS.
    pub fn new(policy: Policy, secure: bool) -> Self {
        Session {
            policy,
            secure,
            input: Input::Wait,
            bytes: Vec::new(),
            at: 0,
            replies: ReplyReader::default(),
            due: VecDeque::from([Due::Greeting]),
            offer: Offer::default(),
            no_auth: false,
            transaction: None,
            to_client: Vec::new(),
            to_backend: Vec::new(),
            steps: VecDeque::new(),
            bad: 0,
            turns: 0,
            replied: 0,
            client_gone: false,
            backend_gone: false,
        }
    }

    /// Bytes for the client; take off what was written, then call [`Session::drained`].
    pub fn to_client(&mut self) -> &mut Vec<u8> {
        &mut self.to_client
    }

    /// Bytes for the backend; take off what was written, then call [`Session::drained`].
    pub fn to_backend(&mut self) -> &mut Vec<u8> {
        &mut self.to_backend
    }

    /// The next thing to be done.
    pub fn step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Whether more of the client's bytes are wanted now.
    pub fn wants_client(&self) -> bool {
        let room = self.bytes.len() - self.at < MAX_BUFFER && self.to_backend.len() < MAX_BUFFER && self.due.len() < MAX_DUE;
        !self.client_gone && room && !matches!(self.input, Input::Over | Input::Void)
    }

    /// Whether more of the backend's bytes are wanted now.
    pub fn wants_backend(&self) -> bool {
        !self.backend_gone && self.to_client.len() < MAX_BUFFER && !matches!(self.input, Input::Over)
    }

    /// Whom it waits for, and a number that changes whenever that side did something whole: a command, a reply.
    pub fn waiting(&self) -> (Waiting, u64) {
        let who = match (&self.input, self.due.front()) {
            (Input::Over, _) | (Input::Void, None) => Waiting::Nobody,
            (Input::Content(c), _) => Waiting::Content(c.bytes),
            (Input::Chunk { seen, .. }, _) => Waiting::Content(*seen),
            (_, Some(Due::Final | Due::Chunk { last: true })) => Waiting::Final,
            (_, Some(_)) => Waiting::Backend,
            (_, None) => Waiting::Client,
        };
        let done = if matches!(who, Waiting::Backend | Waiting::Final) { self.replied } else { self.turns };
        (who, done)
    }

    /// Takes bytes of the client.
    pub fn client(&mut self, bytes: &[u8], now: i64) {
        if matches!(self.input, Input::Over | Input::Void) {
            return;
        }
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
        self.advance(now);
    }

    /// Takes bytes of the backend.
    pub fn backend(&mut self, bytes: &[u8], now: i64) {
        self.replies.push(bytes);
        while !matches!(self.input, Input::Over) {
            match self.replies.next_reply() {
                Ok(Some(reply)) => self.reply(&reply, now),
                Ok(None) => break,
                Err(_) => return self.end(BACKEND_ODD, Some("the backend's reply is no SMTP")),
            }
        }
        self.advance(now);
    }

    /// Something was written: bytes that waited for room go on.
    pub fn drained(&mut self, now: i64) {
        self.advance(now);
    }

    /// The client sends no more.
    pub fn client_eof(&mut self) {
        self.client_gone = true;
        let middle = matches!(self.input, Input::Content(_) | Input::Chunk { .. } | Input::AuthLine | Input::Void);
        if middle || self.due.is_empty() {
            self.over(None);
        }
    }

    /// The backend sends no more.
    pub fn backend_eof(&mut self) {
        self.backend_gone = true;
        match self.due.is_empty() {
            true => self.over(None),
            false => self.end(BACKEND_GONE, Some("the backend closed the connection")),
        }
    }

    /// The backend could not be reached.
    pub fn no_backend(&mut self) {
        self.backend_gone = true;
        self.end(BACKEND_GONE, Some("the backend cannot be reached"));
    }

    /// Whoever was waited for took too long.
    pub fn timeout(&mut self) {
        match self.waiting().0 {
            Waiting::Client | Waiting::Content(_) => self.end(CLIENT_SLOW, Some("the client took too long")),
            Waiting::Backend | Waiting::Final => self.end(BACKEND_SLOW, Some("the backend took too long")),
            Waiting::Nobody => {}
        }
    }

    /// The handshake that [`Step::StartTls`] asked for is done: as after connecting, nothing is known of the client.
    /// Where the session came to its end meanwhile, that stays so.
    pub fn secured(&mut self) {
        if matches!(self.input, Input::Over) {
            return;
        }
        self.secure = true;
        self.bytes.clear();
        self.at = 0;
        self.input = Input::Command;
        self.turns += 1;
    }

    fn over(&mut self, lost: Option<&'static str>) {
        self.input = Input::Over;
        self.steps.retain(|step| *step != Step::StartTls);
        self.due.clear();
        self.bytes.clear();
        self.at = 0;
        self.steps.push_back(Step::Close { lost });
    }

    /// A last word to the client, and the end. Nothing more goes to the backend: what it has of a message it cannot take for whole.
    fn end(&mut self, word: &[u8], lost: Option<&'static str>) {
        self.to_client.extend_from_slice(word);
        self.over(lost);
    }
}
