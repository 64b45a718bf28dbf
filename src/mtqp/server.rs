//! The server: listeners, and who may come in. A connection's dialogue is in `connection`.

use super::cache::Answers;
use super::chain::Chain;
use super::config::ServerConfig;
use super::connection;
use super::limits::{Failures, Gate};
use super::names::Names;
use super::session::{self, Rules};
use super::tls::{Certificates, TlsError};
use super::tracker::Tracker;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Why a server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The config makes no sense.
    #[error("{0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What all connections share.
pub(super) struct Shared {
    pub config: ServerConfig,
    pub rules: Rules,
    pub tracker: Arc<dyn Tracker>,
    pub clock: fn() -> i64,
    /// When it began, seconds since 1970: the one date an opaque answer bears.
    pub began: i64,
    pub chain: Option<Chain>,
    pub failures: Failures,
    pub kept: Answers,
    pub queries: Arc<Semaphore>,
    pub figures: Figures,
    certificates: RwLock<Option<Arc<Certificates>>>,
    gate: Arc<Gate>,
}

/// Counters since the server began.
#[derive(Debug, Default)]
pub struct Figures {
    /// Connections taken.
    pub connections: AtomicU64,
    /// Connections refused for want of a place.
    pub refused: AtomicU64,
    /// TRACKs that opened something.
    pub answered: AtomicU64,
    /// TRACKs that opened nothing.
    pub failed: AtomicU64,
    /// TRACKs that could not be looked up.
    pub unavailable: AtomicU64,
    /// Handshakes that failed.
    pub handshakes_failed: AtomicU64,
}

impl Shared {
    pub fn certificates(&self) -> Option<Arc<Certificates>> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A server that runs; it takes no more connections once this is dropped.
pub struct Handle {
    shared: Arc<Shared>,
    plain: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Handle {
    /// Real addresses of the plain listeners, in the order of the config.
    pub fn plain_addresses(&self) -> &[SocketAddr] {
        &self.plain
    }

    /// Real addresses of the TLS listeners, in the order of the config.
    pub fn tls_addresses(&self) -> &[SocketAddr] {
        &self.tls
    }

    /// Counters.
    pub fn figures(&self) -> &Figures {
        &self.shared.figures
    }

    /// Connections that are open.
    pub fn open_connections(&self) -> usize {
        self.shared.gate.len()
    }

    /// Reads the certificates' files again (SIGHUP); sessions that run keep theirs.
    ///
    /// # Errors
    /// [`TlsError`]; the certificates in use stay then.
    pub fn reload_certificates(&self) -> Result<(), TlsError> {
        let new = load(&self.shared.config)?;
        *self.shared.certificates.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Takes no more connections, ends those that wait for a command, lets answers in progress be sent for `grace`.
    pub async fn stop(self, grace: Duration) {
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + grace;
        while !self.shared.gate.is_empty() && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for t in self.tasks {
            t.abort();
        }
    }
}

fn load(config: &ServerConfig) -> Result<Option<Arc<Certificates>>, TlsError> {
    if config.certificates.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Certificates::load(&config.certificates)?)))
}

/// Begins to serve. `clock` gives seconds since 1970. Call it within a tokio runtime.
///
/// # Errors
/// [`ServerError`]: nothing listens then.
pub async fn spawn(config: ServerConfig, tracker: Arc<dyn Tracker>, clock: fn() -> i64) -> Result<Handle, ServerError> {
    config.check().map_err(ServerError::Config)?;
    let certificates = load(&config)?;
    let chain =
        if config.chain.ask.is_empty() { None } else { Chain::new(&config.chain, Names::by_dns(&config.resolve, &config.name_servers))? };
    let ms = Duration::from_millis;
    let l = &config.limits;
    let shared = Arc::new(Shared {
        rules: config.rules(),
        tracker,
        clock,
        began: clock(),
        chain,
        failures: Failures::new(ms(l.failed_track_milliseconds), ms(l.max_failed_track_milliseconds)),
        kept: Answers::new(l.max_kept_answers_kibibytes << 10),
        queries: Arc::new(Semaphore::new(l.max_queries)),
        figures: Figures::default(),
        certificates: RwLock::new(certificates),
        gate: Gate::new(l.max_connections, l.max_connections_per_client),
        config,
    });
    let (stop, stopped) = watch::channel(false);
    let mut handle = Handle { shared: shared.clone(), plain: vec![], tls: vec![], stop, tasks: vec![] };
    let mut listeners = Vec::new();
    for (addresses, implicit) in [(&shared.config.listen, false), (&shared.config.listen_tls, true)] {
        for &address in addresses {
            let listen = |source| ServerError::Listen { address, source };
            let listener = TcpListener::bind(address).await.map_err(listen)?;
            let real = listener.local_addr().map_err(listen)?;
            if implicit {
                handle.tls.push(real)
            } else {
                handle.plain.push(real)
            }
            listeners.push((listener, implicit));
        }
    }
    for (listener, implicit) in listeners {
        handle.tasks.push(tokio::spawn(accept(shared.clone(), listener, implicit, stopped.clone())));
    }
    Ok(handle)
}

const FIRST_PAUSE: Duration = Duration::from_millis(10);

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(Duration::from_secs(5))
}

/// Takes connections. Out of descriptors or memory it waits a little longer each time (BAR N5); it never spins.
async fn accept(shared: Arc<Shared>, listener: TcpListener, implicit: bool, mut stop: watch::Receiver<bool>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let taken = tokio::select! {
            taken = listener.accept() => taken,
            _ = stop.changed() => return,
        };
        match taken {
            Ok((stream, peer)) => {
                pause = FIRST_PAUSE;
                admit(&shared, stream, peer, implicit, stop.clone());
            }
            Err(e) => {
                tracing::warn!(error = %e, "a connection could not be taken");
                tokio::select! {
                    () = tokio::time::sleep(pause) => pause = longer(pause),
                    _ = stop.changed() => return,
                }
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, mut stream: TcpStream, peer: SocketAddr, implicit: bool, stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let Some(ticket) = shared.gate.enter(&peer.ip()) else {
        shared.figures.refused.fetch_add(1, Ordering::Relaxed);
        // What fits into the socket's buffer is said; nobody waits for it to be read.
        if !implicit {
            let line = session::refusal("unavailable", "too many connections");
            let _ = stream.try_write(&line);
            tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await;
            });
        }
        return;
    };
    shared.figures.connections.fetch_add(1, Ordering::Relaxed);
    let shared = shared.clone();
    tokio::spawn(async move {
        let limit = Duration::from_secs(shared.config.limits.connection_timeout_seconds);
        let _ = tokio::time::timeout(limit, connection::serve(&shared, stream, peer, implicit, stop)).await;
        drop(ticket);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn n5_pauses_grow_to_five_seconds_and_never_vanish() {
        let pauses: Vec<u128> = std::iter::successors(Some(FIRST_PAUSE), |p| Some(longer(*p))).take(12).map(|p| p.as_millis()).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000, 5000]);
    }
}
