//! A syslog listener: UDP (RFC 5426), TCP (RFC 6587) and TLS (RFC 5425).
//!
//! All messages become lines of one stream, `syslog`, in the order of their receipt. A sender over TCP
//! that is faster than the live loop is made to wait; of UDP, that knows no waiting, messages are
//! dropped then, and counted. Everything a sender can fill is bounded: messages, connections (all, and
//! of one address or IPv6 /64), time for a TLS handshake, silence.

pub mod message;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use self::message::line;
use super::SourceError;
use super::feed::{Feed, Parcel, Status};
use super::framing::{Decoder, Framing};
use super::live::{Now, Wake};

/// Bytes asked of a connection at once.
const CHUNK: usize = 16 * 1024;
/// After `accept` failed (descriptors have run out) it is tried again after this time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Where to listen, and bounds.
#[derive(Clone)]
pub struct SyslogOptions {
    /// Addresses for UDP; port 0 is any free one.
    pub udp: Vec<SocketAddr>,
    /// For TCP.
    pub tcp: Vec<SocketAddr>,
    /// For TLS.
    pub tls: Vec<SocketAddr>,
    /// Certificate and key (and, if senders have to show one, whose certificates are accepted).
    pub tls_config: Option<Arc<ServerConfig>>,
    /// Most bytes of a message; longer ones are cut and counted. Default: 16 KiB.
    pub max_message: usize,
    /// Most connections. Default: 256.
    pub max_connections: usize,
    /// Most connections of one address, or IPv6 /64. Default: 32.
    pub max_per_address: usize,
    /// A connection silent for so long is closed. Default: 1 h.
    pub idle: Duration,
    /// Time for a TLS handshake. Default: 10 s.
    pub handshake: Duration,
    /// For messages without a stamp.
    pub clock: Now,
}

impl SyslogOptions {
    /// Nowhere to listen yet, and the default bounds.
    pub fn new(clock: Now) -> SyslogOptions {
        SyslogOptions {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            tls_config: None,
            max_message: 16 * 1024,
            max_connections: 256,
            max_per_address: 32,
            idle: Duration::from_secs(3600),
            handshake: Duration::from_secs(10),
            clock,
        }
    }
}

/// Where it really listens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listening {
    /// UDP.
    pub udp: Vec<SocketAddr>,
    /// TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS.
    pub tls: Vec<SocketAddr>,
}

/// Binds all addresses and listens, in tasks of the current tokio runtime, until the [`Feed`] is dropped.
///
/// # Errors
/// [`SourceError::Io`] that names the address that cannot be bound; [`SourceError::Unsupported`] for TLS
/// without a certificate.
pub async fn syslog(options: SyslogOptions, wake: Wake) -> Result<(Feed, Listening), SourceError> {
    let (sender, status, feed) = Feed::new("syslog", None);
    let mut bound = Listening::default();
    let mut udp = Vec::new();
    for address in &options.udp {
        let socket = UdpSocket::bind(address).await.map_err(|e| cannot("udp", *address, e))?;
        bound.udp.push(socket.local_addr().map_err(|e| cannot("udp", *address, e))?);
        udp.push(socket);
    }
    let acceptor = options.tls_config.clone().map(TlsAcceptor::from);
    if acceptor.is_none() && !options.tls.is_empty() {
        let (what, hint) = ("syslog over TLS without a certificate", "name certificate and key in the config");
        return Err(SourceError::Unsupported { path: PathBuf::from("syslog"), what, hint });
    }
    let mut tcp = Vec::new();
    let all = options.tcp.iter().map(|a| (a, None)).chain(options.tls.iter().map(|a| (a, acceptor.clone())));
    for (address, acceptor) in all {
        let listener = TcpListener::bind(address).await.map_err(|e| cannot("tcp", *address, e))?;
        let real = listener.local_addr().map_err(|e| cannot("tcp", *address, e))?;
        if acceptor.is_some() {
            bound.tls.push(real)
        } else {
            bound.tcp.push(real)
        }
        tcp.push((listener, acceptor));
    }
    let server = Arc::new(Server { options, sender, status, wake, connections: Mutex::default() });
    for socket in udp {
        tokio::spawn(server.clone().datagrams(socket));
    }
    for (listener, acceptor) in tcp {
        tokio::spawn(server.clone().accept(listener, acceptor));
    }
    Ok((feed, bound))
}

fn cannot(how: &str, address: SocketAddr, error: io::Error) -> SourceError {
    SourceError::Io { path: PathBuf::from(format!("syslog {how} {address}")), doing: "listen there".into(), error }
}

struct Server {
    options: SyslogOptions,
    sender: Sender<Parcel>,
    status: Arc<Status>,
    wake: Wake,
    connections: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections, given back when dropped.
struct Place {
    server: Arc<Server>,
    address: IpAddr,
}

impl Place {
    fn take(server: &Arc<Server>, peer: IpAddr) -> Option<Place> {
        let address = group_of(peer);
        let mut all = server.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = all.values().sum();
        let own = all.get(&address).copied().unwrap_or(0);
        if total >= server.options.max_connections || own >= server.options.max_per_address {
            return None;
        }
        all.insert(address, own + 1);
        Some(Place { server: server.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.server.connections.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.address) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(all.remove(&self.address)),
        }
    }
}

/// Whom a connection counts for: the address, or the /64 of an IPv6 address.
fn group_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

impl Server {
    fn cut(&self, count: u64) {
        self.status.oversized.fetch_add(count, Ordering::Relaxed);
    }

    async fn datagrams(self: Arc<Server>, socket: UdpSocket) {
        let mut buf = vec![0; 64 * 1024];
        loop {
            let received = tokio::select! {
                r = socket.recv_from(&mut buf) => r,
                () = self.sender.closed() => return,
            };
            let Ok((n, peer)) = received else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let message = buf.get(..n).unwrap_or_default();
            self.cut(u64::from(n > self.options.max_message));
            let message = message.get(..self.options.max_message).unwrap_or(message);
            let Some(bytes) = line(message, peer.ip().to_canonical(), (self.options.clock)()) else { continue };
            if self.sender.try_send(Parcel { bytes, cursor: None }).is_err() {
                self.status.dropped.fetch_add(1, Ordering::Relaxed);
                self.status.wrong("syslog: messages over UDP come faster than they are read; some are dropped: use TCP".into());
            } else if self.sender.capacity() > self.sender.max_capacity() / 2 {
                self.status.well();
            }
            (self.wake)();
        }
    }

    async fn accept(self: Arc<Server>, listener: TcpListener, acceptor: Option<TlsAcceptor>) {
        loop {
            let accepted = tokio::select! {
                a = listener.accept() => a,
                () = self.sender.closed() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(e) => {
                    self.status.wrong(format!("syslog: no connections are accepted for now: {e}; it is tried again"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = Place::take(&self, peer.ip()) else {
                self.status.wrong(format!(
                    "syslog: more connections than are taken, one of {peer} was closed; raise the bound if they are honest"
                ));
                continue;
            };
            let (server, acceptor) = (self.clone(), acceptor.clone());
            tokio::spawn(async move {
                server.connection(socket, peer.ip().to_canonical(), acceptor).await;
                drop(place);
                server.status.well();
            });
        }
    }

    /// Reads one connection to its end. What is wrong with it is its sender's trouble.
    async fn connection(&self, socket: TcpStream, peer: IpAddr, acceptor: Option<TlsAcceptor>) {
        let reading = async {
            match acceptor {
                None => self.read(socket, peer).await,
                Some(acceptor) => {
                    if let Ok(Ok(tls)) = timeout(self.options.handshake, acceptor.accept(socket)).await {
                        self.read(tls, peer).await;
                    }
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = self.sender.closed() => {}
        }
    }

    async fn read(&self, mut input: impl AsyncRead + Unpin, peer: IpAddr) {
        let mut decoder = Decoder::new(Framing::Syslog, self.options.max_message);
        let mut chunk = vec![0; CHUNK];
        let mut ended = false;
        let mut cut = 0;
        while !ended {
            let mut messages = Vec::new();
            match timeout(self.options.idle, input.read(&mut chunk)).await {
                Ok(Ok(n)) if n > 0 => decoder.feed(chunk.get(..n).unwrap_or_default(), &mut messages),
                _ => {
                    decoder.finish(&mut messages);
                    ended = true;
                }
            }
            self.cut(decoder.cut() - cut);
            cut = decoder.cut();
            let received = (self.options.clock)();
            let bytes: Vec<u8> = messages.iter().filter_map(|m| line(m, peer, received)).flatten().collect();
            if !bytes.is_empty() && self.sender.send(Parcel { bytes, cursor: None }).await.is_err() {
                return;
            }
            (self.wake)();
        }
    }
}
