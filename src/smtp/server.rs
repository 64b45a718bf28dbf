//! The gateway's sockets: accepts, connects to the backend, and lets a [`Session`] say what goes where.

use super::binding::{Binder, Place};
use super::config::{ClientBy, Listen, Protocol, SmtpConfig, Tls};
use super::net::{self, Backend, HANDSHAKE, Io, acceptor};
use super::proxy;
use super::session::{Policy, Session, Step, Waiting};
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// A whole command comes in this time (RFC 5321, 4.5.3.2.7), however many bytes trickle in meanwhile.
const COMMAND: Duration = Duration::from_secs(300);
/// The backend answers a command in this time.
const REPLY: Duration = Duration::from_secs(300);
/// The backend answers a message in this time (4.5.3.2.6).
const FINAL: Duration = Duration::from_secs(600);
/// Content comes at so many bytes a second at least.
const SLOWEST: u64 = 512;
/// Bytes read at once.
const READ: usize = 32 << 10;

/// What a gateway counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections sent away because there were too many.
    pub refused: AtomicU64,
    /// Sessions that did not end properly.
    pub lost: AtomicU64,
    /// Marked messages that the backend took.
    pub marked: AtomicU64,
    /// Those that could not be noted.
    pub unbound: AtomicU64,
}

impl Counters {
    /// Prometheus' text format (version 0.0.4).
    pub fn prometheus(&self) -> String {
        let all = [
            ("connections", "Connections taken.", &self.connections),
            ("refused", "Connections sent away because there were too many.", &self.refused),
            ("lost", "Sessions that did not end properly.", &self.lost),
            ("marked", "Marked messages that the backend took.", &self.marked),
            ("unbound", "Marked messages that cannot be tracked.", &self.unbound),
        ];
        let one = |(name, help, n): (&str, &str, &AtomicU64)| {
            format!(
                "# HELP msgtrk_smtp_{name}_total {help}\n# TYPE msgtrk_smtp_{name}_total counter\nmsgtrk_smtp_{name}_total {}\n",
                n.load(Relaxed)
            )
        };
        all.into_iter().map(one).collect()
    }
}

/// A gateway before one MTA.
pub struct Gateway {
    listen: Listen,
    backend: Backend,
    place: Place,
    policy: Policy,
    tls: Option<TlsAcceptor>,
    implicit: bool,
    binder: Arc<Binder>,
    counters: Arc<Counters>,
    rooms: Arc<Rooms>,
}

impl Gateway {
    /// A gateway as the config says. `host_name` gives the name a host is kept under, `this_host` is this machine.
    ///
    /// # Errors
    /// When a certificate or the backend's name cannot be used.
    pub fn new(
        listen: Listen,
        binder: Arc<Binder>,
        counters: Arc<Counters>,
        rooms: Arc<Rooms>,
        this_host: &str,
        host_name: impl Fn(&str) -> String,
    ) -> Result<Self, net::TlsError> {
        let config = &binder.config;
        let pair = config.certificate.as_deref().zip(config.key.as_deref()).filter(|_| listen.tls != Some(Tls::Off));
        let tls = pair.map(|(certificate, key)| acceptor(certificate, key)).transpose()?;
        let implicit = listen.tls == Some(Tls::Implicit);
        let policy = Policy {
            starttls: tls.is_some() && !implicit,
            auth_in_clear: config.auth_without_tls,
            lmtp: listen.protocol == Protocol::Lmtp,
            xclient: None,
            name: config.name.clone().unwrap_or_else(|| this_host.to_string()),
        };
        let backend = Backend::new(&listen.backend, listen.verify_backend != Some(false), listen.backend_ca.as_deref())?;
        let place = Place {
            host: host_name(listen.host.as_deref().unwrap_or(this_host)),
            mta: listen.mta.clone(),
            instance: listen.instance.clone().unwrap_or_else(|| listen.mta.clone()),
        };
        Ok(Gateway { listen, backend, place, policy, tls, implicit, binder, counters, rooms })
    }

    /// Serves until the runtime ends.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        accept(listener, Arc::clone(&self.rooms), Arc::clone(&self.counters), move |stream, peer, room| {
            let gateway = Arc::clone(&self);
            tokio::spawn(async move {
                gateway.connection(stream, peer).await;
                drop(room);
            });
        })
        .await;
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let local = stream.local_addr().unwrap_or(self.listen.listen);
        let _ = stream.set_nodelay(true);
        let mut client: Box<dyn Io> = Box::new(stream);
        if self.implicit {
            match self.handshake(client).await {
                Some(secure) => client = secure,
                None => return,
            }
        }
        let mut policy = self.policy.clone();
        if self.listen.client == Some(ClientBy::Xclient) {
            policy.xclient = Some(proxy::xclient(peer));
        }
        let mut session = Session::new(policy, self.implicit);
        let header = proxy::header(self.listen.client.unwrap_or(ClientBy::None), peer, local);
        let backend = match self.backend.connect(&header).await {
            Ok(backend) => Some(backend),
            Err(e) => {
                tracing::warn!("smtp: the backend {} cannot be reached: {e}", self.listen.backend);
                session.no_backend();
                None
            }
        };
        self.run(session, client, backend, peer).await;
    }

    async fn handshake(&self, client: Box<dyn Io>) -> Option<Box<dyn Io>> {
        let acceptor = self.tls.as_ref()?;
        match tokio::time::timeout(HANDSHAKE, acceptor.accept(client)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            _ => None,
        }
    }

    async fn run(&self, mut session: Session, mut client: Box<dyn Io>, backend: Option<Box<dyn Io>>, peer: SocketAddr) {
        let mut flow = Flow { buffer: vec![0; READ], backend, client_dirty: false, backend_dirty: false };
        let mut waiting = session.waiting();
        let mut since = Instant::now();
        loop {
            while let Some(step) = session.step() {
                match step {
                    // Before the client hears its yes; whoever reads a log into the ledger may be waited for.
                    Step::Accepted(a) => tokio::task::block_in_place(|| self.note(&a)),
                    Step::StartTls => {
                        let word = std::mem::take(session.to_client());
                        if !say(&mut client, &word).await {
                            return;
                        }
                        match self.handshake(client).await {
                            Some(secure) => client = secure,
                            None => return,
                        }
                        session.secured();
                    }
                    Step::Close { lost } => {
                        drop(flow.backend.take());
                        if let Some(why) = lost {
                            self.counters.lost.fetch_add(1, Relaxed);
                            tracing::info!("smtp: session of {} ended: {why}", peer.ip());
                        }
                        let word = std::mem::take(session.to_client());
                        if say(&mut client, &word).await {
                            net::part(client).await;
                        }
                        return;
                    }
                }
            }
            if session.waiting() != waiting {
                // Content has one deadline from its beginning, that moves by the bytes that came.
                let begun = matches!((waiting.0, session.waiting().0), (Waiting::Content(_), Waiting::Content(_)));
                since = if begun { since } else { Instant::now() };
                waiting = session.waiting();
            }
            let deadline = since + patience(waiting.0);
            if tokio::time::timeout_at(deadline, poll_fn(|cx| flow.poll(cx, &mut session, &mut client))).await.is_err() {
                session.timeout();
            }
        }
    }

    fn note(&self, a: &super::session::Accepted) {
        self.counters.marked.fetch_add(1, Relaxed);
        match self.binder.accepted(&self.place, a) {
            Ok(queue_id) => tracing::debug!("smtp: {queue_id} at {} can be tracked", self.place.host),
            Err(e) => {
                self.counters.unbound.fetch_add(1, Relaxed);
                tracing::error!("smtp: a marked message went through, but cannot be tracked: {e}");
            }
        }
    }
}

fn patience(waiting: Waiting) -> Duration {
    match waiting {
        Waiting::Client => COMMAND,
        Waiting::Content(bytes) => COMMAND + Duration::from_secs(bytes / SLOWEST),
        Waiting::Backend => REPLY,
        Waiting::Final => FINAL,
        Waiting::Nobody => HANDSHAKE,
    }
}

async fn say(client: &mut Box<dyn Io>, word: &[u8]) -> bool {
    let writing = async {
        client.write_all(word).await?;
        client.flush().await
    };
    matches!(tokio::time::timeout(Duration::from_secs(10), writing).await, Ok(Ok(())))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
}

/// Moves bytes between two sockets and a session.
struct Flow {
    buffer: Vec<u8>,
    backend: Option<Box<dyn Io>>,
    client_dirty: bool,
    backend_dirty: bool,
}

impl Flow {
    /// Does all that can be done now; ready as soon as anything was.
    fn poll(&mut self, cx: &mut Context<'_>, session: &mut Session, client: &mut Box<dyn Io>) -> Poll<()> {
        let mut moved = false;
        match push(cx, client, session.to_client(), &mut self.client_dirty) {
            Ok(wrote) => moved |= wrote,
            Err(()) => {
                session.client_eof();
                session.to_client().clear();
                moved = true;
            }
        }
        if let Some(backend) = &mut self.backend {
            match push(cx, backend, session.to_backend(), &mut self.backend_dirty) {
                Ok(wrote) => moved |= wrote,
                Err(()) => {
                    // Its last word may be there to read.
                    session.to_backend().clear();
                }
            }
        }
        if moved {
            session.drained(now());
        }
        if session.wants_client() {
            match pull(cx, client, &mut self.buffer) {
                Poll::Ready(Some(bytes)) => session.client(bytes, now()),
                Poll::Ready(None) => session.client_eof(),
                Poll::Pending => return self.poll_backend(cx, session, moved),
            }
            moved = true;
        }
        self.poll_backend(cx, session, moved)
    }

    fn poll_backend(&mut self, cx: &mut Context<'_>, session: &mut Session, mut moved: bool) -> Poll<()> {
        if let Some(backend) = self.backend.as_mut().filter(|_| session.wants_backend()) {
            match pull(cx, backend, &mut self.buffer) {
                Poll::Ready(Some(bytes)) => session.backend(bytes, now()),
                Poll::Ready(None) => session.backend_eof(),
                Poll::Pending => return if moved { Poll::Ready(()) } else { Poll::Pending },
            }
            moved = true;
        }
        if moved { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Writes what goes; whether anything went. `Err`: nobody takes it any more.
fn push(cx: &mut Context<'_>, to: &mut Box<dyn Io>, bytes: &mut Vec<u8>, dirty: &mut bool) -> Result<bool, ()> {
    let mut done = 0;
    let result = loop {
        let rest = bytes.get(done..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(done > 0);
        }
        match Pin::new(&mut *to).poll_write(cx, rest) {
            Poll::Ready(Ok(n @ 1..)) => {
                done += n;
                *dirty = true;
            }
            Poll::Ready(_) => break Err(()),
            Poll::Pending => break Ok(done > 0),
        }
    };
    bytes.drain(..done);
    if *dirty && bytes.is_empty() {
        match Pin::new(to).poll_flush(cx) {
            Poll::Ready(Ok(())) => *dirty = false,
            Poll::Ready(Err(_)) => return Err(()),
            Poll::Pending => {}
        }
    }
    result
}

/// Reads what is there; `None` is the end.
fn pull<'b>(cx: &mut Context<'_>, from: &mut Box<dyn Io>, buffer: &'b mut [u8]) -> Poll<Option<&'b [u8]>> {
    let mut read = ReadBuf::new(buffer);
    match Pin::new(from).poll_read(cx, &mut read) {
        Poll::Ready(Ok(())) => {
            let n = read.filled().len();
            Poll::Ready(buffer.get(..n).filter(|b| !b.is_empty()))
        }
        Poll::Ready(Err(_)) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    }
}

/// How many connections there are, in all and by address.
#[derive(Debug)]
pub struct Rooms {
    most: usize,
    most_each: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's room; given back when dropped.
pub struct Room {
    rooms: Arc<Rooms>,
    address: IpAddr,
}

impl Rooms {
    /// Room for as many as the config says.
    pub fn new(config: &SmtpConfig) -> Self {
        Rooms { most: config.max_connections, most_each: config.max_connections_per_address, taken: Mutex::default() }
    }

    /// Takes a room for a client, if there is one.
    pub fn take(self: &Arc<Self>, client: IpAddr) -> Option<Room> {
        let address = match client.to_canonical() {
            IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
            v4 => v4,
        };
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.1.get(&address).copied().unwrap_or(0);
        if taken.0 >= self.most || own >= self.most_each {
            return None;
        }
        taken.0 += 1;
        taken.1.insert(address, own + 1);
        Some(Room { rooms: Arc::clone(self), address })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.rooms.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 -= 1;
        let left = taken.1.get(&self.address).map_or(0, |n| n - 1);
        if left == 0 {
            taken.1.remove(&self.address);
        } else {
            taken.1.insert(self.address, left);
        }
    }
}

/// Accepts connections for as long as the runtime lives; those for whom there is no room are told so.
pub(super) async fn accept(
    listener: TcpListener,
    rooms: Arc<Rooms>,
    counters: Arc<Counters>,
    mut serve: impl FnMut(TcpStream, SocketAddr, Room),
) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match rooms.take(peer.ip()) {
                Some(room) => {
                    counters.connections.fetch_add(1, Relaxed);
                    serve(stream, peer, room);
                }
                None => {
                    counters.refused.fetch_add(1, Relaxed);
                    // It fits into an empty socket buffer, or is lost.
                    let _ = stream.try_write(b"421 4.7.0 Too many connections, try again later\r\n");
                }
            },
            Err(e) => {
                // Out of descriptors, most likely: that does not go away by trying at once (BAR N5).
                tracing::warn!("smtp: {e}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    }
}
