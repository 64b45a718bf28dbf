//! The gateway between a client and a backend, without I/O: bytes of both sides in, bytes for both sides out (RFC 5321,
//! 2033, 2920, 3030, 3885).
//!
//! Commands go to the backend as they come, replies to the client as they come. What is kept is the row of replies that
//! are due ([`Due`]): each reply of the backend belongs to the first of them, and what the gateway answers itself stands in
//! the row at its place, so that pipelining keeps its order. The gateway never says yes for the backend.
//!
//! Where a reply decides how the client's next bytes are to be read (DATA, AUTH, EHLO, STARTTLS) the client's bytes wait for
//! it. A reply that would change what the *backend* reads (3xx) and is not due ends the session: then both sides never
//! read the same bytes in two ways.

use super::command::{self, Envelope, Mark, Verb, bdat, envelope, verb};
use super::data::{Content, Found};
use super::reply::{Offer, ReplyReader};
use std::collections::VecDeque;

mod backend;

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

const LONG: &[u8] = b"500 5.5.2 Line too long\r\n";
const CONTROL: &[u8] = b"500 5.5.2 Control characters in a command\r\n";
const NO_TLS: &[u8] = b"502 5.5.1 STARTTLS is not offered\r\n";
const TLS_ARGUMENT: &[u8] = b"501 5.5.4 STARTTLS takes no parameter\r\n";
const TLS_TWICE: &[u8] = b"503 5.5.1 TLS is on already\r\n";
const NEEDS_TLS: &[u8] = b"538 5.7.11 Encryption required for authentication\r\n";
const FORBIDDEN: &[u8] = b"502 5.5.1 Not available here\r\n";
const MARK_ON_RCPT: &[u8] = b"501 5.5.4 MTRK is a parameter of MAIL\r\n";
const HTTP: &[u8] = b"554 5.7.0 This is no web server\r\n";
const BAD_BDAT: &[u8] = b"503 5.5.1 BDAT without CHUNKING, or not as in RFC 3030\r\n";
const TOO_BAD: &[u8] = b"421 4.7.0 Too many errors\r\n";
const SMUGGLED: &[u8] = b"550 5.5.2 A lone dot stands between line ends other than CR LF: such a message is not taken\r\n";
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
    pub fn secured(&mut self) {
        self.secure = true;
        self.bytes.clear();
        self.at = 0;
        self.input = Input::Command;
        self.turns += 1;
    }

    fn over(&mut self, lost: Option<&'static str>) {
        self.input = Input::Over;
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

    // The client's side.

    fn advance(&mut self, now: i64) {
        loop {
            let blocked = self.due.len() >= MAX_DUE || self.to_backend.len() >= MAX_BUFFER;
            if blocked || self.at >= self.bytes.len() {
                break;
            }
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            match &mut self.input {
                Input::Wait | Input::Over | Input::Void => break,
                Input::Content(content) => {
                    let (taken, found) = content.feed(rest, &mut self.to_backend);
                    self.at += taken;
                    match found {
                        Found::More => {}
                        Found::End => {
                            self.turns += 1;
                            self.input = Input::Command;
                        }
                        Found::Smuggled => return self.end(SMUGGLED, Some("a lone dot between odd line ends was refused")),
                    }
                }
                Input::Chunk { left, seen } => {
                    let n = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    self.to_backend.extend_from_slice(rest.get(..n).unwrap_or_default());
                    self.at += n;
                    *left -= n as u64;
                    *seen += n as u64;
                    if *left == 0 {
                        self.input = Input::Command;
                    }
                }
                Input::Command | Input::AuthLine | Input::Skip => {
                    let Some(line) = self.line() else { break };
                    match self.input {
                        Input::AuthLine => self.auth_line(&line),
                        _ => self.command(&line, now),
                    }
                }
            }
        }
        if self.client_gone && self.due.is_empty() && !matches!(self.input, Input::Over) {
            self.over(None);
        }
    }

    /// The next whole line without its end. Of one that is too long only the end is looked for.
    fn line(&mut self) -> Option<Vec<u8>> {
        let most = if matches!(self.input, Input::AuthLine) { command::MAX_AUTH_LINE } else { command::MAX_LINE };
        let rest = self.bytes.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest);
        if matches!(self.input, Input::Skip) {
            self.at += end.map_or(rest.len(), |e| e + 1);
            end?;
            self.input = Input::Command;
            return self.line();
        }
        if end.unwrap_or(rest.len()) > most + 1 {
            self.input = Input::Skip;
            self.refuse(LONG);
            return if self.is_over() { None } else { self.line() };
        }
        let line = rest.get(..end?)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
        self.at += end? + 1;
        self.turns += 1;
        Some(line)
    }

    fn is_over(&self) -> bool {
        matches!(self.input, Input::Over)
    }

    fn pass(&mut self, line: &[u8], due: Due) {
        self.to_backend.extend_from_slice(line);
        self.to_backend.extend_from_slice(b"\r\n");
        self.due.push_back(due);
    }

    fn say(&mut self, word: &[u8]) {
        self.due.push_back(Due::Own(word.to_vec()));
        self.own_words();
    }

    /// The gateway's own no. Too many of them end the session.
    fn refuse(&mut self, word: &[u8]) {
        self.bad += 1;
        if self.bad > MAX_BAD {
            return self.end(TOO_BAD, Some("the client sent too many bad commands"));
        }
        self.say(word);
    }

    /// Ends the session behind the replies that are still due.
    fn part(&mut self, word: &[u8]) {
        self.say(word);
        self.input = Input::Void;
        self.client_gone = true;
        if self.due.is_empty() {
            self.over(None);
        }
    }

    fn command(&mut self, line: &[u8], now: i64) {
        if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return self.refuse(CONTROL);
        }
        let line = line.trim_ascii();
        match verb(line) {
            Verb::Hello => {
                self.input = Input::Wait;
                let extended = !line.get(..4).unwrap_or_default().eq_ignore_ascii_case(b"HELO");
                self.pass(line, Due::Hello { extended });
            }
            Verb::Mail => self.mail(line, now),
            Verb::Rcpt => self.rcpt(line),
            Verb::Data => {
                self.input = Input::Wait;
                self.pass(line, Due::Data);
            }
            Verb::Bdat => match bdat(line).filter(|_| self.offer.chunking) {
                Some((left, last)) => {
                    self.pass(line, Due::Chunk { last });
                    if left > 0 {
                        self.input = Input::Chunk { left, seen: 0 };
                    }
                }
                // Its octets would follow: whether they are content or commands cannot be agreed on.
                None => self.part(BAD_BDAT),
            },
            Verb::Rset => self.pass(line, Due::Reset),
            Verb::StartTls => self.starttls(line),
            // A backend that offers none says so itself.
            Verb::Auth if !self.secure && !self.policy.auth_in_clear && !self.no_auth => self.refuse(NEEDS_TLS),
            Verb::Auth => {
                self.input = Input::Wait;
                self.pass(line, Due::Auth);
            }
            Verb::Quit => self.pass(line, Due::Quit),
            Verb::Forbidden => self.refuse(FORBIDDEN),
            Verb::Http => self.part(HTTP),
            Verb::Other => self.pass(line, Due::Other),
        }
    }

    fn mail(&mut self, line: &[u8], now: i64) {
        let parts = envelope(line);
        let sender = parts.as_ref().map(|e| e.address.to_vec()).unwrap_or_default();
        let mut transaction = Transaction { sender, at: now, ..Transaction::default() };
        let Some(parts) = parts.filter(|_| self.offer.mtrk || self.offer.dsn) else {
            return self.pass(line, Due::Mail(Box::new(transaction)));
        };
        match Mark::of(&parts.params) {
            Ok(None) => self.pass(line, Due::Mail(Box::new(transaction))),
            Ok(Some(mark)) => {
                // It goes on in the moment it came: no second of its time is used up here.
                let param = mark.to_param(0).filter(|_| self.offer.mtrk);
                let line = command::remarked(&parts, param.as_deref());
                transaction.mark = Some(mark);
                self.pass(&line, Due::Mail(Box::new(transaction)));
            }
            Err(why) => self.refuse(format!("501 5.5.4 {why}\r\n").as_bytes()),
        }
    }

    fn rcpt(&mut self, line: &[u8]) {
        let Some(Envelope { address, params, .. }) = envelope(line) else {
            return self.pass(line, Due::Rcpt(Vec::new(), None));
        };
        let trackable = self.offer.mtrk || self.offer.dsn;
        if trackable && params.iter().any(|p| command::value(p, "MTRK").is_some()) {
            return self.refuse(MARK_ON_RCPT);
        }
        let original = params.iter().find_map(|p| command::value(p, "ORCPT")).map(<[u8]>::to_vec);
        self.pass(line, Due::Rcpt(address.to_vec(), original));
    }

    fn starttls(&mut self, line: &[u8]) {
        if !self.policy.starttls {
            return self.refuse(NO_TLS);
        }
        if line.len() > "STARTTLS".len() {
            return self.refuse(TLS_ARGUMENT);
        }
        if self.secure {
            return self.refuse(TLS_TWICE);
        }
        // CVE-2011-0411: what stands behind the command was sent in the clear, by whomever.
        self.bytes.clear();
        self.at = 0;
        self.input = Input::Void;
        self.due.push_back(Due::StartTls);
        self.own_words();
    }

    fn auth_line(&mut self, line: &[u8]) {
        self.input = Input::Wait;
        self.pass(line, Due::Auth);
    }
}
