//! An SMTP client: for `msgtrk submit`, and for the gateway behind an MTA.

use super::net::{self, HANDSHAKE, Io};
use super::reply::{Offer, Reply, ReplyError, ReplyReader};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

/// Deadlines of RFC 5321, 4.5.3.2.
const COMMAND: Duration = Duration::from_secs(300);
const DATA: Duration = Duration::from_secs(120);
const BLOCK: Duration = Duration::from_secs(180);
const FINAL: Duration = Duration::from_secs(600);

/// What went wrong with a server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be reached, or the connection broke.
    #[error("{to}: {error}")]
    Io {
        /// Server.
        to: String,
        /// Why.
        error: std::io::Error,
    },
    /// It sent what is no reply.
    #[error("{to}: {error}")]
    Odd {
        /// Server.
        to: String,
        /// Why.
        error: ReplyError,
    },
    /// It said no.
    #[error("{to} answered {} to {what}", String::from_utf8_lossy(&reply.in_one_line()).trim_end())]
    Refused {
        /// Server.
        to: String,
        /// What it was asked.
        what: String,
        /// Its answer.
        reply: Reply,
    },
    /// It cannot do what is needed.
    #[error("{to} {0}", to = .1)]
    Cannot(&'static str, String),
}

/// A connection to a server.
pub struct Client {
    /// Server, as connected to.
    pub to: String,
    /// What it offered last.
    pub offer: Offer,
    /// Whether the connection is encrypted.
    pub secure: bool,
    /// The server's address, where the connection has one.
    pub peer: Option<std::net::IpAddr>,
    /// What the server calls itself in its answer to EHLO.
    pub name: Option<String>,
    io: Box<dyn Io>,
    replies: ReplyReader,
}

impl Client {
    /// Connects and waits for a good greeting. `implicit`: TLS from the first byte, for a server of that name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(to: &str, implicit: Option<(&TlsConnector, &str)>) -> Result<Client, ClientError> {
        Self::begin(to, to, implicit).await
    }

    /// As [`Client::connect`], where it is known where the host is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect_at(to: &str, at: Option<SocketAddr>) -> Result<Client, ClientError> {
        let at = at.map(|at| at.to_string());
        Self::begin(to, at.as_deref().unwrap_or(to), None).await
    }

    async fn begin(to: &str, at: &str, implicit: Option<(&TlsConnector, &str)>) -> Result<Client, ClientError> {
        let (io, peer) = net::connect_to(at).await.map_err(|error| ClientError::Io { to: to.into(), error })?;
        let mut client =
            Client { to: to.into(), offer: Offer::default(), secure: false, peer, name: None, io, replies: ReplyReader::default() };
        if let Some((connector, name)) = implicit {
            client = client.encrypted(connector, name).await?;
        }
        let greeting = client.reply(COMMAND).await?;
        client.want(greeting, "the connection")?;
        Ok(client)
    }

    /// EHLO, else HELO.
    ///
    /// # Errors
    /// [`ClientError`]; `Refused` when the server wants neither.
    pub async fn hello(&mut self, name: &str) -> Result<(), ClientError> {
        let reply = self.command(format!("EHLO {name}").as_bytes()).await?;
        self.offer = Offer::of(&reply);
        let first = reply.lines().next().map(|l| String::from_utf8_lossy(l).into_owned());
        let named = first.and_then(|l| l.split([' ', '\t']).next().map(str::to_string));
        self.name =
            named.filter(|n| n.contains('.') && n.len() < 256 && n.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')));
        if !reply.is_positive() {
            let reply = self.command(format!("HELO {name}").as_bytes()).await?;
            self.want(reply, "HELO")?;
        }
        Ok(())
    }

    /// STARTTLS and EHLO again.
    ///
    /// # Errors
    /// [`ClientError`]; the connection is of no use then.
    pub async fn starttls(mut self, connector: &TlsConnector, server: &str, name: &str) -> Result<Client, ClientError> {
        let reply = self.command(b"STARTTLS").await?;
        self.want(reply, "STARTTLS")?;
        // What the server sent in the clear behind its yes may be anybody's.
        self.replies = ReplyReader::default();
        let mut client = self.encrypted(connector, server).await?;
        client.hello(name).await?;
        Ok(client)
    }

    async fn encrypted(self, connector: &TlsConnector, server: &str) -> Result<Client, ClientError> {
        let to = self.to.clone();
        let failed = |error| ClientError::Io { to: to.clone(), error };
        let name = ServerName::try_from(server.trim_end_matches('.').to_string())
            .map_err(|_| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, "its name cannot stand in a certificate")))?;
        let io = tokio::time::timeout(HANDSHAKE, connector.connect(name, self.io))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
        Ok(Client { io: Box::new(io), secure: true, replies: ReplyReader::default(), ..self })
    }

    /// AUTH PLAIN or LOGIN (RFC 4954, 4616).
    ///
    /// # Errors
    /// [`ClientError`]; `Cannot` where the server offers neither.
    pub async fn auth(&mut self, user: &str, password: &str) -> Result<(), ClientError> {
        let offers = |m: &str| self.offer.auth.iter().any(|a| a == m);
        let reply = if offers("PLAIN") {
            let word = STANDARD.encode(format!("\0{user}\0{password}"));
            self.command(format!("AUTH PLAIN {word}").as_bytes()).await?
        } else if offers("LOGIN") {
            self.command(b"AUTH LOGIN").await?;
            self.command(STANDARD.encode(user).as_bytes()).await?;
            self.command(STANDARD.encode(password).as_bytes()).await?
        } else {
            return Err(ClientError::Cannot("offers neither AUTH PLAIN nor LOGIN", self.to.clone()));
        };
        self.want(reply, "AUTH").map(drop)
    }

    /// Sends a command, waits for its reply.
    ///
    /// # Errors
    /// [`ClientError`], but never `Refused`.
    pub async fn command(&mut self, line: &[u8]) -> Result<Reply, ClientError> {
        let most = if line.eq_ignore_ascii_case(b"DATA") { DATA } else { COMMAND };
        self.write(&[line, b"\r\n"].concat()).await?;
        self.reply(most).await
    }

    /// The reply, if it is a yes.
    ///
    /// # Errors
    /// `Refused`.
    pub fn want(&self, reply: Reply, what: &str) -> Result<Reply, ClientError> {
        if reply.is_positive() {
            return Ok(reply);
        }
        Err(ClientError::Refused { to: self.to.clone(), what: what.into(), reply })
    }

    /// Sends bytes: a piece of content.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let writing = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        let done = tokio::time::timeout(BLOCK, writing).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        done.map_err(|error| ClientError::Io { to: self.to.clone(), error })
    }

    /// The reply to a message's end.
    ///
    /// # Errors
    /// [`ClientError`], but never `Refused`.
    pub async fn last_word(&mut self) -> Result<Reply, ClientError> {
        self.reply(FINAL).await
    }

    async fn reply(&mut self, most: Duration) -> Result<Reply, ClientError> {
        let to = self.to.clone();
        let reading = async {
            let mut buffer = vec![0; 4096];
            loop {
                if let Some(reply) = self.replies.next_reply().map_err(|error| ClientError::Odd { to: to.clone(), error })? {
                    return Ok(reply);
                }
                let failed = |error| ClientError::Io { to: to.clone(), error };
                let n = self.io.read(&mut buffer).await.map_err(failed)?;
                if n == 0 {
                    return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
                }
                self.replies.push(buffer.get(..n).unwrap_or_default());
            }
        };
        let late = || ClientError::Io { to: self.to.clone(), error: std::io::ErrorKind::TimedOut.into() };
        match tokio::time::timeout(most, reading).await {
            Ok(done) => done,
            Err(_) => Err(late()),
        }
    }
}

/// Content for DATA: lines end in CR LF whatever they ended in, lone dots are doubled, and the end is there.
pub fn stuffed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + message.len() / 32 + 16);
    let mut lines: Vec<&[u8]> = message.split(|b| *b == b'\n').collect();
    if lines.last().is_some_and(|l| l.is_empty()) {
        lines.pop();
    }
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        // A bare CR is no line's end anywhere but where it is taken for one.
        out.extend(line.iter().filter(|b| **b != b'\r'));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}
