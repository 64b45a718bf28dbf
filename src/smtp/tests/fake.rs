//! A small mail server in memory, and a gateway session before it.

use crate::smtp::session::{Policy, Session, Step};

/// What a server took: MAIL line, RCPT lines, content.
pub type Taken = (String, Vec<String>, Vec<u8>);

/// An ESMTP or LMTP server that does what it is told, strictly or as lax servers do.
#[derive(Default)]
pub struct Mta {
    pub keywords: Vec<&'static str>,
    /// Takes bare LFs and CRs for line ends, in content as well, as some servers did.
    pub lax: bool,
    pub lmtp: bool,
    pub taken: Vec<Taken>,
    /// Commands as read.
    pub seen: Vec<String>,
    pub bytes: Vec<u8>,
    pub mode: Mode,
    pub mail: Option<String>,
    pub rcpts: Vec<String>,
    pub content: Vec<u8>,
    pub n: usize,
    pub closed: bool,
}

#[derive(Default, PartialEq)]
pub enum Mode {
    #[default]
    Command,
    Data,
    Chunk(usize, bool),
    Auth,
}

impl Mta {
    pub fn new(keywords: &[&'static str]) -> Self {
        Mta { keywords: keywords.to_vec(), ..Mta::default() }
    }

    pub fn greeting(&self) -> Vec<u8> {
        b"220 mx.test ESMTP ready\r\n".to_vec()
    }

    fn ends(&self) -> Vec<&'static [u8]> {
        if self.lax {
            vec![b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r.\r", b"\r\n.\r", b"\r\n\0.\r\n"]
        } else {
            vec![b"\r\n.\r\n"]
        }
    }

    /// Takes bytes, gives replies.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.bytes.extend_from_slice(bytes);
        let mut out = String::new();
        while !self.closed {
            match self.mode {
                Mode::Data => {
                    // The CR LF of DATA or of the line before belongs to the end's mark.
                    let all = [b"\r\n", self.bytes.as_slice()].concat();
                    let found = self.ends().into_iter().filter_map(|e| Some((memchr::memmem::find(&all, e)?, e.len()))).min();
                    let Some((at, len)) = found else { break };
                    self.content = all[2.min(at)..at].to_vec();
                    if at >= 2 {
                        self.content.extend_from_slice(b"\r\n");
                    }
                    self.bytes.drain(..at + len - 2);
                    self.mode = Mode::Command;
                    out.push_str(&self.take());
                }
                Mode::Chunk(left, last) => {
                    if self.bytes.len() < left {
                        break;
                    }
                    let chunk: Vec<u8> = self.bytes.drain(..left).collect();
                    self.content.extend_from_slice(&chunk);
                    self.mode = Mode::Command;
                    if last {
                        out.push_str(&self.take());
                    } else {
                        out.push_str(&format!("250 2.0.0 {left} octets\r\n"));
                    }
                }
                Mode::Command | Mode::Auth => {
                    let Some(end) = self.bytes.iter().position(|b| *b == b'\n') else { break };
                    let line: Vec<u8> = self.bytes.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_string();
                    out.push_str(&self.command(&line));
                }
            }
        }
        out.into_bytes()
    }

    fn take(&mut self) -> String {
        self.n += 1;
        let rcpts = std::mem::take(&mut self.rcpts);
        let replies = match self.lmtp {
            true => (0..rcpts.len()).map(|k| format!("250 2.0.0 <r{k}> id{}A{k} Saved\r\n", self.n)).collect(),
            false => format!("250 2.0.0 Ok: queued as 4Q{:06}\r\n", self.n),
        };
        self.taken.push((self.mail.take().unwrap_or_default(), rcpts, std::mem::take(&mut self.content)));
        replies
    }

    fn command(&mut self, line: &str) -> String {
        if self.mode == Mode::Auth {
            self.mode = Mode::Command;
            return if line == "*" { "501 5.7.0 given up\r\n".into() } else { "235 2.7.0 welcome\r\n".into() };
        }
        self.seen.push(line.into());
        let upper = line.to_ascii_uppercase();
        let verb = upper.split([' ', '\t']).next().unwrap_or_default();
        let marked = upper.contains("MTRK=") && !self.keywords.contains(&"MTRK");
        match verb {
            "EHLO" | "LHLO" => {
                (self.mail, self.rcpts) = (None, vec![]);
                let mut lines = vec!["mx.test greets you"];
                lines.extend(&self.keywords);
                let last = lines.len() - 1;
                lines.iter().enumerate().map(|(n, l)| format!("250{}{l}\r\n", if n == last { ' ' } else { '-' })).collect()
            }
            "HELO" => "250 mx.test\r\n".into(),
            "MAIL" if marked => "555 5.5.4 Unsupported option: MTRK\r\n".into(),
            "MAIL" if upper.contains("<REFUSED@") => "550 5.1.0 not you\r\n".into(),
            "MAIL" if self.mail.is_some() => "503 5.5.1 nested MAIL\r\n".into(),
            "MAIL" => {
                self.mail = Some(line.into());
                "250 2.1.0 Ok\r\n".into()
            }
            "RCPT" if self.mail.is_none() => "503 5.5.1 need MAIL\r\n".into(),
            "RCPT" if upper.contains("<NO@") => "550 5.1.1 no such user\r\n".into(),
            "RCPT" if upper.contains("<LATER@") => "450 4.2.0 later\r\n".into(),
            "RCPT" => {
                self.rcpts.push(line.into());
                "250 2.1.5 Ok\r\n".into()
            }
            "DATA" if self.rcpts.is_empty() => "554 5.5.1 no valid recipients\r\n".into(),
            "DATA" => {
                self.mode = Mode::Data;
                "354 go on\r\n".into()
            }
            "BDAT" => {
                let mut words = upper.split(' ').skip(1);
                let size = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
                self.mode = Mode::Chunk(size, words.next() == Some("LAST"));
                String::new()
            }
            "AUTH" => {
                self.mode = Mode::Auth;
                "334 VXNlcm5hbWU6\r\n".into()
            }
            "RSET" => {
                (self.mail, self.rcpts) = (None, vec![]);
                "250 2.0.0 Ok\r\n".into()
            }
            "NOOP" => "250 2.0.0 Ok\r\n".into(),
            "XCLIENT" => "220 mx.test ESMTP ready again\r\n".into(),
            "QUIT" => {
                self.closed = true;
                "221 2.0.0 Bye\r\n".into()
            }
            _ => "502 5.5.2 not known\r\n".into(),
        }
    }
}

/// A client, the gateway and a server, joined.
pub struct Line {
    pub session: Session,
    pub mta: Mta,
    /// What the client read.
    pub read: Vec<u8>,
    pub steps: Vec<Step>,
    size: usize,
    pub now: i64,
}

impl Line {
    /// Connected; bytes go in pieces of `size`.
    pub fn new(mta: Mta, policy: Policy, size: usize) -> Self {
        let lmtp = mta.lmtp;
        let mut line =
            Line { session: Session::new(Policy { lmtp, ..policy }, false), mta, read: vec![], steps: vec![], size, now: 1_000_000 };
        let greeting = line.mta.greeting();
        line.backend_says(&greeting);
        line.pump();
        line
    }

    pub fn backend_says(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(self.size) {
            self.now += 1;
            self.session.backend(piece, self.now);
        }
    }

    /// Lets everything flow that can.
    pub fn pump(&mut self) {
        loop {
            let out = std::mem::take(self.session.to_backend());
            self.read.append(self.session.to_client());
            while let Some(step) = self.session.step() {
                self.steps.push(step);
            }
            self.session.drained(self.now);
            if out.is_empty() {
                if self.session.to_backend().is_empty() {
                    return;
                }
                continue;
            }
            for piece in out.chunks(self.size) {
                let reply = self.mta.feed(piece);
                self.backend_says(&reply);
            }
            if self.mta.closed && !self.over() {
                self.session.backend_eof();
            }
        }
    }

    pub fn over(&self) -> bool {
        self.steps.iter().any(|s| matches!(s, Step::Close { .. }))
    }

    /// The client sends; what it reads in answer.
    pub fn send(&mut self, bytes: &[u8]) -> String {
        let before = self.read.len();
        for piece in bytes.chunks(self.size) {
            self.now += 1;
            self.session.client(piece, self.now);
            if self.size > 16 || bytes.len() < 2_000 {
                self.pump();
            }
        }
        self.pump();
        String::from_utf8_lossy(&self.read[before..]).into_owned()
    }

    /// Marked messages that were noted.
    pub fn accepted(&self) -> Vec<crate::smtp::session::Accepted> {
        self.steps.iter().filter_map(|s| if let Step::Accepted(a) = s { Some((**a).clone()) } else { None }).collect()
    }
}
