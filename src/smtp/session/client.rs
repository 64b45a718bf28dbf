//! The client's side of a session: what is read as a command, what as content, and what of it goes on.

use super::{Due, Input, MAX_BAD, MAX_BUFFER, MAX_DUE, Session, Transaction};
use crate::smtp::command::{self, Envelope, Mark, Verb, bdat, envelope, verb};
use crate::smtp::data::Found;

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

impl Session {
    pub(super) fn advance(&mut self, now: i64) {
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

    pub(super) fn is_over(&self) -> bool {
        matches!(self.input, Input::Over)
    }

    pub(super) fn pass(&mut self, line: &[u8], due: Due) {
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
