//! One connection: what the session says is done here, with a deadline on everything (BAR N2).

use super::answer;
use super::command::Claim;
use super::config::{TlsVersion, Unknown};
use super::server::Shared;
use super::session::{self, Session, Step, Transport};
use super::tls;
use super::tracker::{self, TrackerError};
use crate::trkstat::{self, Address, Mta, Part, Recipient, from_xtext};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

/// Bytes that are read at a time: more than a line, so that memory is bounded by this and one line.
const READ: usize = 4096;
/// Bytes of responses that wait before they are sent.
const WRITE: usize = 32 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(shared: &Arc<Shared>, mut stream: TcpStream, peer: SocketAddr, implicit: bool, stop: watch::Receiver<bool>) {
    let mut config = None;
    if implicit {
        config = shared.certificates().map(|c| c.for_any());
    } else {
        let mut talk = Talk { shared, peer, level: None, stop: stop.clone() };
        match talk.run(&mut stream, Transport::Plain).await {
            Ok(Some(tls)) => config = Some(tls),
            Ok(None) => end(&mut stream).await,
            Err(e) => tracing::debug!(%peer, error = %e, "connection ended"),
        }
    }
    let Some(config) = config else { return };
    // Of the plain session nothing is left: what the client sent behind STARTTLS was dropped with it (BAR N1).
    let limit = Duration::from_secs(shared.config.limits.handshake_timeout_seconds);
    let shaken = timeout(limit, TlsAcceptor::from(config).accept(stream)).await;
    let Ok(Ok(mut stream)) = shaken else {
        shared.figures.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let level = tls::version(stream.get_ref().1.protocol_version());
    let secure = level >= Some(shared.config.least_tls_version);
    let mut talk = Talk { shared, peer, level, stop };
    match talk.run(&mut stream, Transport::Tls { secure }).await {
        Ok(_) => end(&mut stream).await,
        Err(e) => tracing::debug!(%peer, error = %e, "connection ended"),
    }
}

/// Our half is closed; what the client still sends is read for a moment, so that our last response is not lost to a reset.
async fn end<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let linger = async {
        stream.shutdown().await?;
        let mut sink = [0u8; READ];
        let mut left = 64usize;
        while left > 0 && stream.read(&mut sink).await? > 0 {
            left -= 1;
        }
        io::Result::Ok(())
    };
    let _ = timeout(Duration::from_secs(2), linger).await;
}

struct Talk<'a> {
    shared: &'a Arc<Shared>,
    peer: SocketAddr,
    level: Option<TlsVersion>,
    stop: watch::Receiver<bool>,
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl Talk<'_> {
    /// The dialogue. `Some`: the handshake of STARTTLS follows.
    async fn run<S>(&mut self, stream: &mut S, transport: Transport) -> io::Result<Option<Arc<rustls::ServerConfig>>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = self.shared;
        let limits = &shared.config.limits;
        let mut session = Session::new(&shared.rules, transport);
        let mut out = session.greeting();
        if session.is_closed() {
            self.send(stream, &mut out).await?;
            return Ok(None);
        }
        let mut buffer = [0u8; READ];
        let mut command_ends: Option<Instant> = None;
        loop {
            while let Some(step) = session.next_step() {
                command_ends = None;
                match step {
                    Step::Reply(bytes) => out.extend_from_slice(&bytes),
                    Step::Close(bytes) => {
                        out.extend_from_slice(&bytes);
                        self.send(stream, &mut out).await?;
                        return Ok(None);
                    }
                    Step::Track(claim) => {
                        self.send(stream, &mut out).await?;
                        out = self.track(claim).await;
                    }
                    Step::StartTls(name) => match shared.certificates().and_then(|c| c.for_name(&name)) {
                        Some(config) => {
                            out.extend_from_slice(&session::tls_ready());
                            self.send(stream, &mut out).await?;
                            return Ok(Some(config));
                        }
                        None => out.extend_from_slice(&session::bad_fqdn()),
                    },
                }
                if out.len() > WRITE {
                    self.send(stream, &mut out).await?;
                }
            }
            self.send(stream, &mut out).await?;
            let now = Instant::now();
            let seconds = Duration::from_secs;
            let deadline = match session.is_amid_command() {
                // Absolute, from the command's first byte: a byte a minute does not hold a place.
                true => *command_ends.get_or_insert(now + seconds(limits.command_timeout_seconds)),
                false => now + seconds(limits.idle_timeout_seconds),
            };
            let read = tokio::select! {
                read = timeout_at(deadline, stream.read(&mut buffer)) => read.map_err(|_| too_slow("no command in time"))??,
                _ = self.stop.changed() => return Ok(None),
            };
            if read == 0 {
                return Ok(None);
            }
            session.feed(buffer.get(..read).unwrap_or_default());
        }
    }

    async fn send<S: AsyncWrite + Unpin>(&self, stream: &mut S, out: &mut Vec<u8>) -> io::Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let limit = Duration::from_secs(self.shared.config.limits.write_timeout_seconds);
        let write = async {
            stream.write_all(out).await?;
            stream.flush().await
        };
        timeout(limit, write).await.map_err(|_| too_slow("the client does not read"))??;
        out.clear();
        Ok(())
    }

    /// The response to one TRACK.
    async fn track(&self, claim: Claim) -> Vec<u8> {
        let began = Instant::now();
        let s = self.shared;
        if let Err(e) = s.tracker.asked(self.peer.ip(), &claim.envelope_id) {
            tracing::error!(error = %e, "a question could not be written down, and is not answered");
            s.figures.unavailable.fetch_add(1, Ordering::Relaxed);
            return session::unavailable();
        }
        let generation = s.tracker.generation();
        if let Some(kept) = generation.and_then(|g| s.kept.get(&claim, g, (s.clock)())) {
            s.figures.answered.fetch_add(1, Ordering::Relaxed);
            return kept.to_vec();
        }
        let limit = Duration::from_secs(s.config.limits.query_timeout_seconds);
        let found = timeout(limit, look_up(s.clone(), claim.clone())).await;
        let (mut answer, until) = match found {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => {
                tracing::error!(error = %e, "a look-up failed");
                s.figures.unavailable.fetch_add(1, Ordering::Relaxed);
                return session::unavailable();
            }
            Err(_) => {
                s.figures.unavailable.fetch_add(1, Ordering::Relaxed);
                return session::unavailable();
            }
        };
        if answer.parts.is_empty() {
            s.figures.failed.fetch_add(1, Ordering::Relaxed);
            // From the command on, so that how long the look-up took cannot be seen (BAR N4).
            let delay = s.failures.delay(&self.peer.ip(), began.into_std());
            tokio::time::sleep_until(began + delay).await;
            return unknown(s, &claim);
        }
        let mut own = true;
        if let Some(chain) = s.chain.as_ref().filter(|_| !answer.onward.is_empty()) {
            chain.extend(&mut answer, &claim, self.level).await;
            own = false;
        }
        match trkstat::write(&answer.parts) {
            Ok(lines) => {
                s.figures.answered.fetch_add(1, Ordering::Relaxed);
                let bytes = session::answer(&lines);
                // What others said may change without a commit of ours.
                if let Some(g) = generation.filter(|_| own) {
                    s.kept.put(&claim, g, until, &bytes);
                }
                bytes
            }
            Err(e) => {
                tracing::error!(error = %e, "an answer could not be written");
                s.figures.unavailable.fetch_add(1, Ordering::Relaxed);
                session::unavailable()
            }
        }
    }
}

/// Looks up off the event loop, a bounded number at a time. Also says until when the answer holds, if nothing is committed.
async fn look_up(s: Arc<Shared>, claim: Claim) -> Result<(answer::Answer, i64), TrackerError> {
    let stopped = |_| TrackerError("the server stops".into());
    let permit = s.queries.clone().acquire_owned().await.map_err(stopped)?;
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let policy = &s.config.answer;
        let now = (s.clock)();
        let opened = tracker::open(s.tracker.as_ref(), &claim, policy, s.config.default_lifetime_days, now)?;
        // What lies queued is shown even after its end; that changes with a commit only.
        let until = opened.iter().map(|o| o.ends).filter(|e| *e >= now).min().unwrap_or(i64::MAX);
        Ok((answer::answer(&opened, policy, &shown_id(&claim)), until))
    });
    task.await.map_err(|e| TrackerError(e.to_string()))?
}

/// The envelope id as Original-Envelope-Id bears it: not in xtext, unless what it stands for cannot be written (RFC 3464, 2.2.1).
fn shown_id(claim: &Claim) -> String {
    let plain = from_xtext(&claim.envelope_id);
    let writable = !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_graphic());
    if writable { plain } else { claim.envelope_id.clone() }
}

/// What is said of a message that is not known; nothing in it depends on why.
fn unknown(s: &Shared, claim: &Claim) -> Vec<u8> {
    if s.config.unknown == Unknown::NoInfo {
        return session::no_info();
    }
    let name = s.config.answer.public_name.as_deref().unwrap_or("unknown");
    let part = Part {
        envelope_id: shown_id(claim),
        reporting_mta: Mta::dns(answer::host_text(name)),
        arrival_date: s.began,
        extensions: vec![],
        recipients: vec![Recipient::opaque(Address::unknown(), Address::unknown())],
    };
    trkstat::write(&[part]).map_or_else(|_| session::no_info(), |lines| session::answer(&lines))
}
