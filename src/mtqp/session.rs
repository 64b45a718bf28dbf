//! One server session without I/O (R5): bytes in, steps out.
//!
//! The caller feeds what it reads, takes steps until there is none, does what each says, in order, and only then reads on: so
//! pipelined commands are answered in order (3887, 8) and memory is bounded by one read and one line. When TLS begins the
//! caller drops the session with all it holds, the bytes behind STARTTLS too, and begins a new one (6.2; CVE-2011-0411).

use super::command::{self, Claim, Command, CommandError, MAX_LINE};
use super::reply::{Indicator, multi, status};

/// What a server is like, as far as the dialogue shows it.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whether STARTTLS can be done.
    pub starttls: StartTls,
    /// For which domains (of envelope ids) plaintext is refused.
    pub require_tls: RequireTls,
    /// No session is taken.
    pub out_of_service: Option<OutOfService>,
    /// Commands a session may give before it is ended.
    pub max_commands: u64,
    /// Bad commands a session may give before it is ended.
    pub max_bad_commands: u32,
}

/// Whether STARTTLS can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Not configured.
    Unsupported,
    /// Configured, but no certificate could be loaded.
    Unavailable,
    /// Yes.
    Offered,
}

/// For how long no session is taken: each is greeted with a refusal (3887, 3) and closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfService {
    /// `-TEMP`: for a while.
    Temporarily,
    /// `-ERR`: the service does not come back.
    ForGood,
}

/// For whom TLS is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequireTls {
    /// For nobody.
    Never,
    /// For everybody.
    Always,
    /// For envelope ids of these domains and those below them.
    Domains(Vec<String>),
}

impl RequireTls {
    fn of(&self, envelope_id: &str) -> bool {
        match self {
            RequireTls::Never => false,
            RequireTls::Always => true,
            RequireTls::Domains(all) => {
                let domain = envelope_id.rsplit_once('@').map_or("", |(_, d)| d).to_ascii_lowercase();
                all.iter().any(|d| domain == *d || domain.strip_suffix(d.as_str()).is_some_and(|rest| rest.ends_with('.')))
            }
        }
    }
}

/// What a session runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS, good enough for this server or not (3887, 6.1).
    Tls {
        /// Whether it is good enough.
        secure: bool,
    },
}

/// What the caller is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send these bytes.
    Reply(Vec<u8>),
    /// Look up, then send [`answer`], [`no_info`] or another response.
    Track(Claim),
    /// Send [`tls_ready`], drop the session and shake hands; or send [`bad_fqdn`] if no certificate bears the name.
    StartTls(String),
    /// Send these bytes and close.
    Close(Vec<u8>),
}

/// A session.
#[derive(Debug)]
pub struct Session<'a> {
    rules: &'a Rules,
    transport: Transport,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of the present line that were thrown away because it is too long.
    overlong: usize,
    commands: u64,
    bad: u32,
    closed: bool,
}

/// Bytes of one line that are thrown away before the connection is closed.
const MOST_OVERLONG: usize = 64 * 1024;

impl<'a> Session<'a> {
    /// A session that begins.
    pub fn new(rules: &'a Rules, transport: Transport) -> Self {
        let closed = rules.out_of_service.is_some();
        Session { rules, transport, buffer: Vec::new(), at: 0, overlong: 0, commands: 0, bad: 0, closed }
    }

    /// Whether nothing more is taken: what was to be said is to be sent, and the connection closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The initial status response (3887, 3): never the STARTTLS option once TLS is on (6.2).
    pub fn greeting(&self) -> Vec<u8> {
        match self.rules.out_of_service {
            Some(OutOfService::Temporarily) => {
                return status(Indicator::Temp, &["MTQP", "admin"], "Service down for admin, call back later");
            }
            Some(OutOfService::ForGood) => return status(Indicator::Err, &["MTQP", "admin"], "Service down"),
            None => {}
        }
        let text = "MTQP server ready";
        if self.transport != Transport::Plain || self.rules.starttls != StartTls::Offered {
            return status(Indicator::Ok, &["MTQP"], text);
        }
        let option = if self.rules.require_tls == RequireTls::Never { "STARTTLS" } else { "STARTTLS required" };
        multi(&["MTQP"], text, &[option])
    }

    /// Adds bytes that were read.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a command has begun but not ended: its absolute deadline runs (BAR N2).
    pub fn is_amid_command(&self) -> bool {
        self.overlong > 0 || self.at < self.buffer.len()
    }

    /// What to do next; `None` when more bytes are needed.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.closed {
            return None;
        }
        // A client that speaks TLS at once would wait for ever for our half of a handshake.
        if self.commands == 0 && self.overlong == 0 && self.transport == Transport::Plain && self.buffer.get(self.at) == Some(&0x16) {
            return Some(self.close(status(Indicator::Bad, &[], "TLS begins with STARTTLS here")));
        }
        let line = self.line()?;
        self.commands += 1;
        let step = match line {
            Line::Endless => return Some(self.close(status(Indicator::Bad, &[], "line without end"))),
            Line::TooLong => self.bad_command(status(Indicator::Bad, &[], "a line has at most 998 characters")),
            Line::Whole(text) => match text.strip_suffix(b"\r") {
                Some(text) => self.command(text),
                None => self.bad_command(status(Indicator::Bad, &[], "lines end with CR LF")),
            },
        };
        if self.commands > self.rules.max_commands && !self.closed {
            return Some(self.close(status(Indicator::Temp, &["admin"], "too many commands in one session")));
        }
        Some(step)
    }

    fn close(&mut self, bytes: Vec<u8>) -> Step {
        self.closed = true;
        self.buffer = Vec::new();
        self.at = 0;
        Step::Close(bytes)
    }

    fn bad_command(&mut self, bytes: Vec<u8>) -> Step {
        self.bad += 1;
        if self.bad < self.rules.max_bad_commands {
            return Step::Reply(bytes);
        }
        self.close(bytes)
    }

    fn line(&mut self) -> Option<Line> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        match memchr::memchr(b'\n', rest) {
            Some(end) => {
                let total = self.overlong + end;
                let text = rest.get(..end).unwrap_or_default();
                // The LF is at `end`; before it stand the CR and at most 998 characters.
                let line = match total {
                    n if n > MOST_OVERLONG => Line::Endless,
                    n if n > MAX_LINE + 1 => Line::TooLong,
                    _ => Line::Whole(text.to_vec()),
                };
                self.at += end + 1;
                self.overlong = 0;
                Some(line)
            }
            None if self.overlong > 0 || rest.len() > MAX_LINE + 1 => {
                self.overlong += rest.len();
                self.at = self.buffer.len();
                (self.overlong > MOST_OVERLONG).then_some(Line::Endless)
            }
            None => None,
        }
    }

    fn command(&mut self, text: &[u8]) -> Step {
        let parsed = command::parse(text);
        let insecure = self.transport == Transport::Tls { secure: false };
        // 6.1: every command but QUIT.
        if insecure && !matches!(parsed, Ok(Command::Quit) | Err(_)) {
            return Step::Reply(status(Indicator::Err, &["insecure"], "the TLS session is not good enough for this server"));
        }
        match parsed {
            Ok(Command::Quit) => self.close(status(Indicator::Ok, &[], "bye")),
            Ok(Command::Comment) => Step::Reply(status(Indicator::Ok, &[], "")),
            Ok(Command::StartTls(name)) => self.start_tls(name),
            Ok(Command::Track(claim)) => {
                let required = self.transport == Transport::Plain && self.rules.require_tls.of(&claim.envelope_id);
                if required {
                    return Step::Reply(status(Indicator::Err, &["tls-required"], "use STARTTLS first"));
                }
                Step::Track(claim)
            }
            // 6: TLS in progress is a protocol error whatever the parameter is.
            Err(CommandError::BadName) if self.transport != Transport::Plain => self.in_progress(),
            Err(e @ CommandError::BadName) => self.bad_command(status(Indicator::Bad, &["bad-fqdn"], &e.to_string())),
            Err(e @ CommandError::Http) => self.close(status(Indicator::Bad, &[], &e.to_string())),
            Err(e) => self.bad_command(status(Indicator::Bad, &[], &e.to_string())),
        }
    }

    fn in_progress(&mut self) -> Step {
        self.bad_command(status(Indicator::Bad, &["tls-in-progress"], "TLS is on already"))
    }

    fn start_tls(&mut self, name: String) -> Step {
        if self.transport != Transport::Plain {
            return self.in_progress();
        }
        match self.rules.starttls {
            StartTls::Unsupported => Step::Reply(status(Indicator::Err, &["unsupported"], "no TLS here")),
            StartTls::Unavailable => Step::Reply(status(Indicator::Temp, &["unavailable"], "TLS is out of order")),
            StartTls::Offered => Step::StartTls(name),
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    Endless,
}

/// The positive response to STARTTLS (6): the handshake follows.
pub fn tls_ready() -> Vec<u8> {
    status(Indicator::Ok, &[], "begin TLS negotiation")
}

/// No certificate bears the name that STARTTLS gave (6).
pub fn bad_fqdn() -> Vec<u8> {
    status(Indicator::Bad, &["bad-fqdn"], "no certificate here bears that name")
}

/// What is said of a message that was not seen and of one whose secret is another (4): the same bytes.
pub fn no_info() -> Vec<u8> {
    status(Indicator::Err, &["noinfo"], "nothing is known of such a message")
}

/// A look-up could not be done in time, or at all.
pub fn unavailable() -> Vec<u8> {
    status(Indicator::Temp, &["unavailable"], "try again later")
}

/// A positive answer to TRACK (4): a MIME body part, a line each.
pub fn answer(lines: &[String]) -> Vec<u8> {
    multi(&[], "Tracking information follows", lines)
}

/// The greeting of a server that takes no more connections (3).
pub fn refusal(reason: &str, text: &str) -> Vec<u8> {
    status(Indicator::Temp, &["MTQP", reason], text)
}
