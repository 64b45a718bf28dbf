//! The backend's side of a session: each reply meets the first that is due.

use super::{Accepted, BACKEND_GONE, BACKEND_ODD, Content, Due, Input, MAX_RECIPIENTS, Session, Step};
use crate::smtp::reply::{Offer, Own, Reply, rewritten};

const TLS_READY: &[u8] = b"220 2.0.0 Ready to start TLS\r\n";

impl Session {
    /// Says what of the row's front is the gateway's own.
    pub(super) fn own_words(&mut self) {
        while let Some(Due::Own(_) | Due::StartTls) = self.due.front() {
            match self.due.pop_front() {
                Some(Due::Own(word)) => self.to_client.extend_from_slice(&word),
                _ => {
                    self.to_client.extend_from_slice(TLS_READY);
                    // RFC 3207, 4.2: what was said before is forgotten, by the backend as well.
                    self.offer = Offer::default();
                    self.no_auth = false;
                    self.transaction = None;
                    self.pass(b"RSET", Due::Hidden);
                    self.steps.push_back(Step::StartTls);
                }
            }
        }
    }

    pub(super) fn reply(&mut self, reply: &Reply, now: i64) {
        self.replied += 1;
        let Some(due) = self.due.pop_front() else {
            // A server may say 421 at any time, and then closes.
            let word: &[u8] = if reply.code == 421 { &reply.raw } else { BACKEND_ODD };
            return self.end(word, Some("the backend spoke unasked"));
        };
        if reply.code == 421 {
            return self.end(&reply.raw, None);
        }
        let asked = match due {
            Due::Data => reply.code == 354,
            Due::Auth => reply.code == 334,
            _ => false,
        };
        if (300..400).contains(&reply.code) && !asked {
            return self.end(BACKEND_ODD, Some("the backend asked for more where nothing follows"));
        }
        self.due_reply(due, reply, now);
        if !self.is_over() {
            self.own_words();
        }
    }

    fn due_reply(&mut self, due: Due, reply: &Reply, now: i64) {
        let yes = reply.is_positive();
        match due {
            Due::Greeting if self.policy.xclient.is_some() && yes => {
                let hello = if self.policy.lmtp { "LHLO" } else { "EHLO" };
                let line = format!("{hello} {}", self.policy.name);
                return self.pass(line.as_bytes(), Due::OwnHello);
            }
            Due::OwnHello => return self.own_hello(reply),
            Due::Hidden => return,
            Due::Hello { extended } => return self.hello(reply, extended),
            Due::Final => return self.last_word(reply),
            Due::Chunk { last: true } => {
                // LMTP: a reply for each recipient, of which this is the first.
                let more = self.transaction.as_ref().filter(|_| self.policy.lmtp).map_or(0, |t| t.taken.saturating_sub(1));
                (0..more).for_each(|_| self.due.push_front(Due::Final));
                return self.last_word(reply);
            }
            Due::Greeting | Due::XclientGreeting => self.input = Input::Command,
            Due::Mail(transaction) if yes => self.transaction = Some(*transaction),
            Due::Rcpt(address, original) if yes => self.recipient(address, original, now),
            Due::Reset if yes => self.transaction = None,
            Due::Data => self.content(reply, now),
            Due::Auth => self.input = if reply.code == 334 { Input::AuthLine } else { Input::Command },
            Due::Quit => {
                self.to_client.extend_from_slice(&reply.raw);
                return self.over(None);
            }
            Due::Mail(_) | Due::Rcpt(..) | Due::Reset | Due::Chunk { .. } | Due::Other | Due::Own(_) | Due::StartTls => {}
        }
        self.to_client.extend_from_slice(&reply.raw);
    }

    fn own_hello(&mut self, reply: &Reply) {
        let attributes = self.policy.xclient.clone().filter(|_| Offer::of(reply).xclient);
        match attributes {
            Some(attributes) => self.pass(format!("XCLIENT {attributes}").as_bytes(), Due::XclientGreeting),
            None => self.end(BACKEND_GONE, Some("the backend does not offer XCLIENT to the gateway")),
        }
    }

    fn hello(&mut self, reply: &Reply, extended: bool) {
        self.input = Input::Command;
        if !reply.is_positive() {
            self.to_client.extend_from_slice(&reply.raw);
            return;
        }
        self.transaction = None;
        self.offer = if extended { Offer::of(reply) } else { Offer::default() };
        if extended {
            self.no_auth = self.offer.auth.is_empty();
        }
        if !extended {
            self.to_client.extend_from_slice(&reply.raw);
            return;
        }
        let own = Own {
            mtrk: self.offer.dsn || self.offer.mtrk,
            starttls: self.policy.starttls && !self.secure,
            auth: self.secure || self.policy.auth_in_clear,
        };
        self.to_client.extend_from_slice(&rewritten(reply, own));
    }

    fn recipient(&mut self, address: Vec<u8>, original: Option<Vec<u8>>, now: i64) {
        let Some(t) = &mut self.transaction else { return };
        t.taken += 1;
        t.at = now;
        if t.mark.is_some() && t.recipients.len() < MAX_RECIPIENTS {
            t.recipients.push((address, original));
        }
    }

    fn content(&mut self, reply: &Reply, now: i64) {
        if reply.code != 354 {
            self.input = Input::Command;
            return;
        }
        self.input = Input::Content(Content::default());
        let mut due = 1;
        if let Some(t) = &mut self.transaction {
            t.at = now;
            due = if self.policy.lmtp { t.taken.max(1) } else { 1 };
        }
        (0..due).for_each(|_| self.due.push_back(Due::Final));
    }

    fn last_word(&mut self, reply: &Reply) {
        if matches!(self.input, Input::Content(_)) {
            // The backend did not wait for the end: what it reads now cannot be told.
            let word: &[u8] = if reply.code >= 400 { &reply.raw } else { BACKEND_ODD };
            return self.end(word, Some("the backend answered before the message's end"));
        }
        if reply.is_positive() {
            self.note(reply);
        }
        let more = matches!(self.due.front(), Some(Due::Final));
        match &mut self.transaction {
            Some(t) if more => t.told += 1,
            _ => self.transaction = None,
        }
        self.to_client.extend_from_slice(&reply.raw);
    }

    fn note(&mut self, reply: &Reply) {
        let Some(t) = &self.transaction else { return };
        let Some(mark) = t.mark.clone() else { return };
        let recipients = match self.policy.lmtp {
            true => t.recipients.get(t.told).cloned().into_iter().collect(),
            false => t.recipients.clone(),
        };
        let accepted = Accepted { mark, sender: t.sender.clone(), recipients, reply: reply.in_one_line(), at: t.at };
        self.steps.push_back(Step::Accepted(Box::new(accepted)));
    }
}
