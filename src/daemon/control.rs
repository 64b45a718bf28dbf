//! The control socket: how other processes of the same user ask the daemon and hand it work.
//!
//! `control.sock` in the index folder, mode 0600. Both sides send frames: four bytes of length (big endian), then JSON.
//! The first frame each way bears the protocol's version; a client of another version is told so and nothing else.
//! One thread a client, few clients, every frame bounded: whoever may open the socket may read the index anyway.

use super::figures::Status;
use super::querylog::{Asker, QueryLog};
use super::writer::Job;
use crate::ingest::commit::{Forget, Sink, Work};
use crate::ingest::open::View;
use crate::ledger::Change;
use crate::model::journey::Lookup;
use crate::model::record::{Record, StoredRecord};
use crate::store::StoreError;
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Version of the protocol.
const VERSION: u32 = 1;
/// Name of the socket.
const SOCKET: &str = "control.sock";
/// The longest frame, bytes.
const MAX_FRAME: usize = 256 << 20;
/// Clients at once.
const MAX_CLIENTS: usize = 32;
/// A client that is silent for so long in the middle of a frame is left.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of events that a client should gather before it hands them in: live lines wait no longer than such a commit takes.
pub const BUDGET: usize = 4 << 20;

#[derive(Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Request {
    Hello { version: u32 },
    Status,
    ById { id: String },
    Commit(Box<Handed>),
}

/// The part of [`Work`] that others may hand in: all but the positions of the live sources.
#[derive(Serialize, Deserialize)]
struct Handed {
    changes: Vec<Change>,
    sources: Vec<(String, String)>,
    replace: Vec<StoredRecord>,
    remove: Vec<String>,
    expire_before: Option<i64>,
    #[serde(default)]
    forget: Option<Forget>,
    #[serde(default)]
    purge: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Response {
    Hello { version: u32, program: String },
    Status(Box<Status>),
    Records { records: Vec<StoredRecord> },
    Committed { records: u64 },
    Refused { why: String },
}

fn send<T: Serialize>(stream: &mut UnixStream, what: &T) -> io::Result<()> {
    let body = serde_json::to_vec(what)?;
    let length = u32::try_from(body.len()).ok().filter(|n| *n as usize <= MAX_FRAME).ok_or(io::ErrorKind::InvalidInput)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&body)
}

fn receive<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.set_read_timeout(None)?;
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut body = Vec::new();
    Read::by_ref(stream).take(length as u64).read_to_end(&mut body)?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&body)?)
}

/// A path to the socket that is short enough for an address (108 bytes), whatever the folder's is.
fn address(dir: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    let path = dir.join(SOCKET);
    if path.as_os_str().len() < 100 {
        return Ok((path, None));
    }
    use std::os::fd::AsRawFd;
    let folder = std::fs::File::open(dir)?;
    Ok((PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())), Some(folder)))
}

/// What one client asked.
struct Questions {
    who: Asker,
    /// Ids that its answers named: to follow them is no other question.
    led_to: FxHashSet<String>,
}

/// Ids of one client's answers that are remembered; those beyond are questions of their own.
const MOST_LED_TO: usize = 100_000;

/// The user at a socket's other end.
fn uid(stream: &UnixStream) -> Asker {
    rustix::net::sockopt::socket_peercred(stream).map_or(Asker::Unknown, |c| Asker::User(c.uid.as_raw()))
}

/// The daemon's end.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

/// What clients are served from.
pub struct Service {
    /// Store and open records.
    pub view: View,
    /// The writer's queue.
    pub jobs: SyncSender<Job>,
    /// Asked for the figures.
    pub status: Box<dyn Fn() -> Status + Send + Sync>,
    /// Told of each question.
    pub asked: Box<dyn Fn() + Send + Sync>,
    /// Where questions are written down.
    pub queries: Arc<RwLock<Option<QueryLog>>>,
}

impl Server {
    /// Binds the socket. The caller holds the index' writer, so a socket that is there already is a dead one's.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn bind(dir: &Path) -> io::Result<Server> {
        let path = dir.join(SOCKET);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let (address, _folder) = address(dir)?;
        let listener = UnixListener::bind(address)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Server { listener, path })
    }

    /// Serves clients, each in a thread of its own, for as long as the process lives.
    pub fn serve(self, service: Arc<Service>) {
        let clients = Arc::new(AtomicUsize::new(0));
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!("control socket {}: {e}", self.path.display());
                    std::thread::sleep(Duration::from_millis(200));
                    continue;
                }
            };
            if clients.fetch_add(1, SeqCst) >= MAX_CLIENTS {
                clients.fetch_sub(1, SeqCst);
                let _ = send(&mut stream, &Response::Refused { why: "too many clients at once, try again".into() });
                continue;
            }
            let (service, count) = (Arc::clone(&service), Arc::clone(&clients));
            std::thread::spawn(move || {
                if let Err(e) = service.client(&mut stream) {
                    tracing::debug!("control socket: client left: {e}");
                }
                count.fetch_sub(1, SeqCst);
            });
        }
    }
}

impl Service {
    fn client(&self, stream: &mut UnixStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        let hello = Response::Hello { version: VERSION, program: env!("CARGO_PKG_VERSION").into() };
        match receive(stream)? {
            Request::Hello { version: VERSION } => send(stream, &hello)?,
            _ => return send(stream, &hello),
        }
        let mut asker = Questions { who: uid(stream), led_to: FxHashSet::default() };
        loop {
            let request = match receive(stream) {
                Ok(request) => request,
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(e) => return Err(e),
            };
            let response = self.answer(request, &mut asker);
            send(stream, &response)?;
        }
    }

    /// Writes a question down, unless an answer before led to it.
    fn note(&self, id: &str, asker: &Questions) -> Result<(), StoreError> {
        let log = self.queries.read().unwrap_or_else(PoisonError::into_inner);
        match log.as_ref().filter(|_| !asker.led_to.contains(id)) {
            Some(log) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
                log.note(now, asker.who, "control", "trace", &[("id", id.to_string())])
            }
            None => Ok(()),
        }
    }

    fn answer(&self, request: Request, asker: &mut Questions) -> Response {
        let refused = |e: &dyn std::fmt::Display| Response::Refused { why: e.to_string() };
        match request {
            Request::Hello { .. } => refused(&"hello was said before"),
            Request::Status => Response::Status(Box::new((self.status)())),
            Request::ById { id } => {
                (self.asked)();
                if let Err(e) = self.note(&id, asker) {
                    return refused(&e);
                }
                let found = self.view.by_id(&id);
                let logged = self.queries.read().unwrap_or_else(PoisonError::into_inner).is_some();
                for r in found.iter().flatten().filter(|_| logged) {
                    if asker.led_to.len() < MOST_LED_TO {
                        asker.led_to.extend(r.ids(&r.derive()));
                    }
                }
                found.map_or_else(|e| refused(&e), |records| Response::Records { records })
            }
            Request::Commit(handed) => {
                let Handed { changes, sources, replace, remove, expire_before, forget, purge } = *handed;
                let work = Work { changes, sources, positions: None, masked: false, replace, remove, expire_before, forget, purge };
                let (reply, done) = sync_channel(1);
                if self.jobs.send(Job::Other(Box::new(work), reply)).is_err() {
                    return refused(&"the daemon is ending; run the command again");
                }
                match done.recv() {
                    Ok(Ok(records)) => Response::Committed { records },
                    Ok(Err(e)) => refused(&e),
                    Err(_) => refused(&"the daemon ended before this was stored; run the command again"),
                }
            }
        }
    }
}

/// A running daemon, seen from another process.
pub struct Daemon {
    stream: UnixStream,
    dir: PathBuf,
    seen: FxHashSet<String>,
}

impl Daemon {
    /// Connects to the daemon of an index. `None` when none runs.
    ///
    /// # Errors
    /// When one runs that cannot be talked to: no permission, or another version.
    pub fn connect(dir: &Path) -> Result<Option<Daemon>, StoreError> {
        let io = |source| StoreError::Io { doing: "talk to the daemon at", path: dir.join(SOCKET), source };
        let (address, _folder) = match address(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io)?,
        };
        let mut stream = match UnixStream::connect(address) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
            Err(e) => return Err(io(e)),
        };
        send(&mut stream, &Request::Hello { version: VERSION }).map_err(io)?;
        let why = match receive(&mut stream).map_err(io)? {
            Response::Hello { version: VERSION, .. } => return Ok(Some(Daemon { stream, dir: dir.into(), seen: FxHashSet::default() })),
            Response::Hello { version, program } => {
                format!("it is msgtrk {program} and speaks version {version}: use the same msgtrk, or restart it")
            }
            Response::Refused { why } => why,
            _ => "it gave another answer than was asked for".into(),
        };
        Err(StoreError::Daemon { dir: dir.into(), why })
    }

    fn ask(&mut self, request: &Request) -> Result<Response, StoreError> {
        let io = |source| StoreError::Io { doing: "talk to the daemon at", path: self.dir.join(SOCKET), source };
        send(&mut self.stream, request).map_err(io)?;
        match receive(&mut self.stream).map_err(io)? {
            Response::Refused { why } => Err(StoreError::Daemon { dir: self.dir.clone(), why }),
            response => Ok(response),
        }
    }

    fn confused(&self) -> StoreError {
        StoreError::Daemon { dir: self.dir.clone(), why: "it gave another answer than was asked for".into() }
    }

    /// How it is.
    ///
    /// # Errors
    /// When it is gone.
    pub fn status(&mut self) -> Result<Status, StoreError> {
        match self.ask(&Request::Status)? {
            Response::Status(s) => Ok(*s),
            _ => Err(self.confused()),
        }
    }

    /// Records that have an id, open events included.
    ///
    /// # Errors
    /// When it is gone or cannot read its index.
    pub fn by_id(&mut self, id: &str) -> Result<Vec<StoredRecord>, StoreError> {
        match self.ask(&Request::ById { id: id.into() })? {
            Response::Records { records } => Ok(records),
            _ => Err(self.confused()),
        }
    }
}

impl Sink for Daemon {
    fn commit(&mut self, work: Work) -> Result<u64, StoreError> {
        if work.is_empty() {
            return Ok(0);
        }
        let Work { changes, sources, replace, remove, expire_before, forget, purge, positions: _, masked: _ } = work;
        match self.ask(&Request::Commit(Box::new(Handed { changes, sources, replace, remove, expire_before, forget, purge })))? {
            Response::Committed { records } => Ok(records),
            _ => Err(self.confused()),
        }
    }
}

impl Lookup for Daemon {
    type Error = StoreError;

    fn by_id(&mut self, id: &str) -> Result<Vec<Record>, StoreError> {
        let found = Daemon::by_id(self, id)?;
        Ok(found.into_iter().filter(|r| self.seen.insert(r.key.clone())).map(|r| r.derive()).collect())
    }
}
