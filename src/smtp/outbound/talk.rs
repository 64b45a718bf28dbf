//! One connection of the MTA.

use super::Outbound;
use super::plan::{self, Known};
use crate::model::time::SECOND;
use crate::smtp::binding::Next;
use crate::smtp::client::{Client, ClientError};
use crate::smtp::command::{self, Envelope, Mark, Verb, envelope, verb};
use crate::smtp::data::{Content, Found};
use crate::smtp::net::Io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The MTA sends its next line, or piece of content, in this time.
const PATIENCE: Duration = Duration::from_secs(300);

/// The connection is over, and not by QUIT.
pub(super) struct Broken;

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Broken
    }
}

/// A transaction of the MTA's.
#[derive(Default)]
struct Open {
    /// MAIL as it came.
    mail: Vec<u8>,
    sender: Vec<u8>,
    /// The mark that stood in it.
    own: Option<Mark>,
    /// What the index knows of its envelope id.
    known: Option<Known>,
    domain: String,
    /// Whether its recipients take the mark along; the first one decides.
    marked: bool,
    /// Recipients that the next host took.
    taken: Vec<Vec<u8>>,
    /// The next host has MAIL.
    begun: bool,
}

pub(super) struct Talk<'g> {
    gateway: &'g Outbound,
    io: Box<dyn Io>,
    bytes: Vec<u8>,
    next: Option<(String, Client)>,
    open: Option<Open>,
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

impl<'g> Talk<'g> {
    pub(super) fn new(gateway: &'g Outbound, io: Box<dyn Io>) -> Self {
        Talk { gateway, io, bytes: Vec::new(), next: None, open: None }
    }

    pub(super) async fn run(&mut self) -> Result<(), Broken> {
        self.say(&format!("220 {} ESMTP msgtrk", self.gateway.name)).await?;
        while let Some(line) = self.line().await? {
            let line = line.trim_ascii();
            match verb(line) {
                Verb::Hello => self.hello(line).await?,
                Verb::Mail => self.mail(line).await?,
                Verb::Rcpt => self.rcpt(line).await?,
                Verb::Data => self.data().await?,
                Verb::Rset => {
                    self.reset().await;
                    self.say("250 2.0.0 Ok").await?;
                }
                Verb::Quit => {
                    if let Some((_, client)) = &mut self.next {
                        let _ = client.command(b"QUIT").await;
                    }
                    return self.say("221 2.0.0 Bye").await;
                }
                Verb::Other if line.get(..4).is_some_and(|w| w.eq_ignore_ascii_case(b"NOOP")) => self.say("250 2.0.0 Ok").await?,
                Verb::Http => return self.say("554 5.7.0 This is no web server").await,
                _ => self.say("502 5.5.1 Not available here").await?,
            }
        }
        Ok(())
    }

    async fn say(&mut self, line: &str) -> Result<(), Broken> {
        self.io.write_all(line.as_bytes()).await?;
        self.io.write_all(b"\r\n").await?;
        Ok(self.io.flush().await?)
    }

    /// More bytes of the MTA; false at the end.
    async fn more(&mut self) -> Result<bool, Broken> {
        let read = tokio::time::timeout(PATIENCE, self.io.read_buf(&mut self.bytes)).await.map_err(|_| Broken)?;
        Ok(read? > 0)
    }

    async fn line(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.bytes) {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                return Ok(Some(line.trim_ascii_end().to_vec()));
            }
            if self.bytes.len() > command::MAX_LINE {
                self.say("500 5.5.2 Line too long").await?;
                return Err(Broken);
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn hello(&mut self, line: &[u8]) -> Result<(), Broken> {
        self.reset().await;
        let name = self.gateway.name.clone();
        if line.get(..4).is_some_and(|w| w.eq_ignore_ascii_case(b"HELO")) {
            return self.say(&format!("250 {name}")).await;
        }
        // What of this the next host lacks is seen to per message (plan::mail).
        let offer = ["PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "MTRK"];
        let mut text = format!("250-{name}");
        for (n, keyword) in offer.iter().enumerate() {
            text.push_str(if n + 1 == offer.len() { "\r\n250 " } else { "\r\n250-" });
            text.push_str(keyword);
        }
        self.say(&text).await
    }

    async fn reset(&mut self) {
        if self.open.take().is_some_and(|o| o.begun)
            && let Some((_, client)) = &mut self.next
            && client.command(b"RSET").await.is_err()
        {
            self.next = None;
        }
    }

    async fn mail(&mut self, line: &[u8]) -> Result<(), Broken> {
        if self.open.is_some() {
            return self.say("503 5.5.1 Nested MAIL").await;
        }
        let Some(e) = envelope(line) else { return self.say("501 5.5.4 MAIL FROM:<address>").await };
        let own = match Mark::of(&e.params) {
            Ok(own) => own,
            Err(why) => return self.say(&format!("501 5.5.4 {why}")).await,
        };
        let envid = e.params.iter().find_map(|p| command::value(p, "ENVID")).map(|v| String::from_utf8_lossy(v).into_owned());
        let known = match envid {
            Some(id) => self.gateway.known(&id, now().div_euclid(SECOND)).await,
            None => None,
        };
        self.open = Some(Open { mail: line.to_vec(), sender: e.address.to_vec(), own, known, ..Open::default() });
        self.say("250 2.1.0 Ok").await
    }

    async fn rcpt(&mut self, line: &[u8]) -> Result<(), Broken> {
        let Some(open) = &self.open else { return self.say("503 5.5.1 Need MAIL").await };
        let Some(e) = envelope(line) else { return self.say("501 5.5.4 RCPT TO:<address>").await };
        let domain = plan::domain(e.address);
        if domain.is_empty() {
            return self.say("550 5.1.3 An address with a domain is needed here").await;
        }
        let marked = open.own.is_some() || open.known.as_ref().is_some_and(|k| k.goes_with(&open.sender, e.address));
        if open.begun && (open.domain != domain || open.marked != marked) {
            return self.say("452 4.5.3 Send this recipient in a transaction of its own").await;
        }
        if !open.begun
            && let Err(word) = self.begin(&domain, marked).await
        {
            return self.say(&word).await;
        }
        let Some((_, client)) = &mut self.next else { return self.say("451 4.4.2 The next host is gone").await };
        let told = client.command(&plan::rcpt(&e, &client.offer)).await;
        let recipient = e.address.to_vec();
        match told {
            Ok(reply) => {
                if reply.is_positive()
                    && let Some(open) = &mut self.open
                {
                    open.taken.push(recipient);
                }
                self.io.write_all(&reply.raw).await?;
                Ok(self.io.flush().await?)
            }
            Err(e) => self.lost(&e).await,
        }
    }

    /// Connects to the domain's host and sends MAIL; else what to say.
    async fn begin(&mut self, domain: &str, marked: bool) -> Result<(), String> {
        let kept = self.next.as_ref().is_some_and(|(of, _)| of == domain);
        if !kept {
            if let Some((_, mut client)) = self.next.take() {
                let _ = client.command(b"QUIT").await;
            }
            self.next = Some((domain.to_string(), self.gateway.next_host(domain).await?));
        }
        let (Some(open), Some((_, client))) = (&mut self.open, &mut self.next) else { return Err("503 5.5.1 Need MAIL".into()) };
        let parts: Envelope = envelope(&open.mail).ok_or("501 5.5.4 MAIL FROM:<address>")?;
        let wants_utf8 = parts.params.iter().any(|p| command::value(p, "SMTPUTF8").is_some());
        if wants_utf8 && !client.offer.utf8 {
            return Err("553 5.6.7 The next host offers no SMTPUTF8".into());
        }
        let mark = open.own.as_ref().or(open.known.as_ref().map(|k| &k.mark)).filter(|_| marked);
        let line = plan::mail(&parts, &client.offer, mark);
        let reply = match client.command(&line).await {
            Ok(reply) if reply.code != 421 => reply,
            // A connection that was kept may have been closed meanwhile.
            _ if kept => {
                self.next = None;
                return Box::pin(self.begin(domain, marked)).await;
            }
            Ok(reply) => {
                self.next = None;
                return Err(format!("451 4.4.2 {}", String::from_utf8_lossy(&reply.in_one_line())));
            }
            Err(e) => {
                self.next = None;
                return Err(format!("451 4.4.2 {e}"));
            }
        };
        if !reply.is_positive() {
            return Err(String::from_utf8_lossy(&reply.raw).trim_end().to_string());
        }
        (open.begun, open.marked) = (true, marked);
        open.domain = domain.to_string();
        Ok(())
    }

    async fn lost(&mut self, e: &ClientError) -> Result<(), Broken> {
        self.next = None;
        self.open = None;
        let why: String = e.to_string().chars().filter(|c| !c.is_control()).take(200).collect();
        self.say(&format!("451 4.4.2 {why}")).await
    }

    async fn data(&mut self) -> Result<(), Broken> {
        let some = self.open.as_ref().is_some_and(|o| !o.taken.is_empty());
        let Some((_, client)) = self.next.as_mut().filter(|_| some) else {
            return self.say("554 5.5.1 No valid recipients").await;
        };
        let reply = match client.command(b"DATA").await {
            Ok(reply) => reply,
            Err(e) => return self.lost(&e).await,
        };
        self.io.write_all(&reply.raw).await?;
        self.io.flush().await?;
        if reply.code != 354 {
            self.reset().await;
            return Ok(());
        }
        let done = self.content().await?;
        let reply = match (done, &mut self.next) {
            (Err(e), _) => return self.lost(&e).await,
            (Ok(false), _) => {
                self.next = None;
                self.say("550 5.5.2 A lone dot stands between line ends other than CR LF: such a message is not taken").await?;
                return Err(Broken);
            }
            (Ok(true), Some((_, client))) => client.last_word().await,
            (Ok(true), None) => return Err(Broken),
        };
        match reply {
            Ok(reply) => {
                if reply.is_positive() {
                    tokio::task::block_in_place(|| self.note());
                }
                self.open = None;
                self.io.write_all(&reply.raw).await?;
                Ok(self.io.flush().await?)
            }
            Err(e) => self.lost(&e).await,
        }
    }

    /// Passes the content on. A next host that is lost on the way is told at the end; false: it hid a second end.
    async fn content(&mut self) -> Result<Result<bool, ClientError>, Broken> {
        let mut content = Content::default();
        let mut lost = None;
        loop {
            let mut out = Vec::new();
            let (taken, found) = content.feed(&self.bytes, &mut out);
            self.bytes.drain(..taken);
            if let Some((_, client)) = self.next.as_mut().filter(|_| lost.is_none())
                && let Err(e) = client.write(&out).await
            {
                lost = Some(e);
            }
            match (found, lost) {
                (Found::End, None) => return Ok(Ok(true)),
                (Found::End, Some(e)) => return Ok(Err(e)),
                (Found::Smuggled, _) => return Ok(Ok(false)),
                (Found::More, l) => lost = l,
            }
            if !self.more().await? {
                return Err(Broken);
            }
        }
    }

    /// Notes whether the next host tracks, for each recipient it took.
    fn note(&self) {
        let (Some(open), Some((_, client))) = (&self.open, &self.next) else { return };
        let Some(known) = &open.known else { return };
        let host = client.to.rsplit_once(':').map_or(client.to.as_str(), |(host, _)| host).trim_matches(['[', ']']);
        // A stranger's word for its name is none: with it a record of another message could be drawn into an answer (R8).
        let own = client.name.as_ref().filter(|_| host.parse::<IpAddr>().is_ok() && self.gateway.hosts.listed(&open.domain));
        let host = own.cloned().unwrap_or_else(|| host.to_string());
        // An address of this machine would say that the message went to a filter and came back.
        let ip = client.peer.filter(|ip| !ip.is_loopback()).map(|ip| ip.to_string());
        let next = Next { host, ip, tracks: client.offer.mtrk && open.marked };
        for recipient in &open.taken {
            self.gateway.note(known, recipient, &next, now());
        }
    }
}
