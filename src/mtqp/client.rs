//! The client's half: connect, STARTTLS where offered, TRACK, read; all of it bounded in time and size.

use super::command::Claim;
use super::config::TlsVersion;
use super::names::Target;
use super::reply::{Indicator, Reader, Reply, ReplyError};
use super::tls::{self, TlsError};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use sha1::{Digest as _, Sha1};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Whether the client speaks TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Or not at all; the certificate must hold unless [`Options::verify`] is off.
    Require,
    /// Where it is offered; a certificate that does not hold is borne.
    Prefer,
    /// Never.
    Off,
}

/// How a client goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it speaks TLS.
    pub tls: TlsMode,
    /// Least version of TLS.
    pub least: TlsVersion,
    /// With [`TlsMode::Require`]: the certificate must hold.
    pub verify: bool,
    /// Roots that it trusts.
    pub roots: Arc<RootCertStore>,
    /// Most bytes of one answer.
    pub max_answer_bytes: usize,
    /// To connect, for the greeting, and for the handshake, each.
    pub connect_timeout: Duration,
    /// For an answer (RFC 3887, 2.5: two minutes at least, since the server may chain).
    pub answer_timeout: Duration,
}

impl Options {
    /// Options with the given roots and RFC 3887's times.
    pub fn new(tls: TlsMode, roots: Arc<RootCertStore>) -> Self {
        Options {
            tls,
            least: TlsVersion::Tls12,
            verify: true,
            roots,
            max_answer_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(20),
            answer_timeout: Duration::from_secs(130),
        }
    }
}

/// Why nothing was learnt.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{address}: {source}")]
    Connect {
        /// Where to.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// It took too long.
    #[error("{0}: no answer in time")]
    Timeout(&'static str),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// TLS was required and is not offered.
    #[error("the server offers no TLS")]
    NoTls,
    /// The handshake failed, or the certificate does not hold.
    #[error("TLS: {0}")]
    Tls(String),
    /// What came is no MTQP.
    #[error(transparent)]
    Reply(#[from] ReplyError),
    /// The server takes no session: its greeting.
    #[error("the server is out of service: {0}")]
    Refused(String),
}

impl From<TlsError> for ClientError {
    fn from(e: TlsError) -> Self {
        ClientError::Tls(e.to_string())
    }
}

/// What is known of a session's TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFacts {
    /// Version.
    pub version: TlsVersion,
    /// Whether the certificate held.
    pub held: bool,
    /// SHA-1 of the certificate, in hex: to see whether it is another one next time (RFC 3887, 11).
    pub fingerprint: String,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open session.
pub struct Connection {
    stream: Box<dyn Stream>,
    reader: Reader,
    options: Options,
    /// Who took the session.
    pub peer: std::net::SocketAddr,
    /// Whether the server offered STARTTLS.
    pub offered_tls: bool,
    /// TLS, where it is on.
    pub tls: Option<TlsFacts>,
}

/// Commands that are sent before their answers are read.
const BATCH: usize = 16;

impl Connection {
    /// Connects, reads the greeting, and begins TLS as the options say.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn open(target: &Target, options: &Options) -> Result<Self, ClientError> {
        let limit = options.connect_timeout;
        let tcp = within(limit, "connect", TcpStream::connect(target.address)).await?;
        let mut tcp = tcp.map_err(|source| ClientError::Connect { address: target.address, source })?;
        let _ = tcp.set_nodelay(true);
        let mut reader = Reader::new(64 * 1024);
        let greeting = within(limit, "greeting", read_reply(&mut tcp, &mut reader)).await??;
        accept(&greeting)?;
        let offered_tls = greeting.options().iter().any(|(name, _)| name == "starttls");
        let tls = match options.tls {
            TlsMode::Off => false,
            TlsMode::Prefer => offered_tls,
            TlsMode::Require if !offered_tls => return Err(ClientError::NoTls),
            TlsMode::Require => true,
        };
        let plain = |stream: Box<dyn Stream>| Connection {
            stream,
            reader: Reader::new(options.max_answer_bytes),
            options: options.clone(),
            peer: target.address,
            offered_tls,
            tls: None,
        };
        if !tls {
            return Ok(plain(Box::new(tcp)));
        }
        let command = format!("STARTTLS {}\r\n", target.name);
        let ready = within(limit, "STARTTLS", async {
            tcp.write_all(command.as_bytes()).await?;
            read_reply(&mut tcp, &mut reader).await
        })
        .await??;
        if ready.indicator != Indicator::Ok {
            let why = format!("STARTTLS was refused: {} {}", ready.info.join("/"), ready.text);
            return if options.tls == TlsMode::Require { Err(ClientError::Tls(why)) } else { Ok(plain(Box::new(tcp))) };
        }
        Self::begin_tls(tcp, target, options).await
    }

    /// After the handshake nothing is known of before (RFC 3887, 6.2): the greeting comes anew.
    async fn begin_tls(tcp: TcpStream, target: &Target, options: &Options) -> Result<Self, ClientError> {
        let must = options.tls == TlsMode::Require && options.verify;
        let (config, check) = tls::client(&options.roots, options.least, must)?;
        let name = ServerName::try_from(target.name.clone()).map_err(|e| ClientError::Tls(e.to_string()))?;
        let shaken = within(options.connect_timeout, "TLS handshake", TlsConnector::from(config).connect(name, tcp)).await?;
        let mut stream = shaken.map_err(|e| ClientError::Tls(e.to_string()))?;
        let (_, session) = stream.get_ref();
        let version = tls::version(session.protocol_version()).ok_or_else(|| ClientError::Tls("unknown version".into()))?;
        let cert = session.peer_certificates().and_then(|c| c.first()).map(|c| Sha1::digest(c.as_ref()));
        let fingerprint = cert.iter().flatten().map(|b| format!("{b:02x}")).collect();
        let mut reader = Reader::new(options.max_answer_bytes);
        let greeting = within(options.connect_timeout, "greeting", read_reply(&mut stream, &mut reader)).await??;
        accept(&greeting)?;
        Ok(Connection {
            stream: Box::new(stream),
            reader,
            options: options.clone(),
            peer: target.address,
            offered_tls: true,
            tls: Some(TlsFacts { version, held: check.held(), fingerprint }),
        })
    }

    /// Asks for several messages in batches of pipelined commands (RFC 3887, 8); an answer each, in order.
    ///
    /// # Errors
    /// [`ClientError`]; answers that came before are lost then.
    pub async fn track(&mut self, claims: &[Claim]) -> Result<Vec<Reply>, ClientError> {
        let mut answers = Vec::with_capacity(claims.len());
        for batch in claims.chunks(BATCH) {
            let mut commands = String::new();
            for c in batch {
                commands.push_str(&format!("TRACK {} {}\r\n", c.envelope_id, c.secret.to_base64()));
            }
            within(self.options.answer_timeout, "TRACK", self.stream.write_all(commands.as_bytes())).await??;
            for _ in batch {
                let reply = within(self.options.answer_timeout, "TRACK", read_reply(&mut self.stream, &mut self.reader)).await??;
                answers.push(reply);
            }
        }
        Ok(answers)
    }

    /// Says goodbye; whatever comes of it is of no interest.
    pub async fn quit(mut self) {
        let bye = async {
            self.stream.write_all(b"QUIT\r\n").await?;
            read_reply(&mut self.stream, &mut self.reader).await
        };
        let _ = tokio::time::timeout(Duration::from_secs(2), bye).await;
        let _ = self.stream.shutdown().await;
    }
}

fn accept(greeting: &Reply) -> Result<(), ClientError> {
    if !greeting.says("mtqp") {
        return Err(ClientError::Reply(ReplyError::NotMtqp));
    }
    match greeting.indicator {
        Indicator::Ok | Indicator::OkMulti => Ok(()),
        _ => Err(ClientError::Refused(format!("{} {}", greeting.info.join("/"), greeting.text))),
    }
}

async fn within<T>(limit: Duration, what: &'static str, f: impl Future<Output = T>) -> Result<T, ClientError> {
    tokio::time::timeout(limit, f).await.map_err(|_| ClientError::Timeout(what))
}

async fn read_reply<S: AsyncRead + Unpin + ?Sized>(stream: &mut S, reader: &mut Reader) -> Result<Reply, ClientError> {
    let mut buffer = [0u8; 8192];
    loop {
        if let Some(reply) = reader.next_reply()? {
            return Ok(reply);
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(ClientError::Io(std::io::ErrorKind::UnexpectedEof.into())),
            n => reader.feed(buffer.get(..n).unwrap_or_default()),
        }
    }
}

/// Tries targets in order until one takes a session.
///
/// # Errors
/// That of the last one tried.
pub async fn connect(targets: &[Target], options: &Options) -> Result<Connection, ClientError> {
    let mut last = ClientError::Timeout("no address to connect to");
    for t in targets {
        match Connection::open(t, options).await {
            Ok(c) => return Ok(c),
            Err(e) => last = e,
        }
    }
    Err(last)
}
