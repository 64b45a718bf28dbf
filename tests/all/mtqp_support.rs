//! A tracking server in process, with an index made of log lines and bindings.

use crate::support::Index;
use msgtrk::daemon::tracker::ViewTracker;
use msgtrk::ingest::bind::{Bind, change};
use msgtrk::ingest::commit::{Sink, Work};
use msgtrk::ingest::open::{OpenRecords, View};
use msgtrk::ledger::Change;
use msgtrk::model::record::StoredRecord;
use msgtrk::mtqp::command::Secret;
use msgtrk::mtqp::config::{Certificate, ServerConfig};
use msgtrk::mtqp::server::{Handle, spawn};
use msgtrk::store::Store;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Base64 of the RFC's secret, "abcdefgh" and a line feed.
pub const SECRET: &str = "YWJjZGVmZ2gK";

/// 2001-01-02 12:00 UTC: a day after the RFC's examples.
pub fn clock() -> i64 {
    978_436_800
}

/// An index of these log lines.
pub fn index_of(log: &str) -> Index {
    let index = Index::new();
    let path = index.dir.path().join("mail.log");
    std::fs::write(&path, log).unwrap();
    let done = index.fill(&[path], "localhost");
    assert_eq!(done.counts.unparsed_lines(), 0, "{:?}", done.counts);
    index
}

pub fn record(index: &Index, queue_id: &str) -> StoredRecord {
    let all = index.records();
    all.into_iter().find(|r| r.slot.queue_id == queue_id).unwrap_or_else(|| panic!("no record {queue_id}"))
}

/// Binds an envelope id and the hash of a secret to a record. `expires`: seconds since 1970, 0 takes it back.
pub fn bind(index: &Index, queue_id: &str, envelope_id: &str, secret: &str, expires: Option<i64>) {
    let record = record(index, queue_id);
    commit(index, vec![binding(&record, envelope_id, secret, expires)]);
}

/// As [`bind`], for several.
pub fn bind_all(index: &Index, queue_ids: &[String], envelope_id: &str, secret: &str) {
    let records = index.records();
    let mine = records.iter().filter(|r| queue_ids.contains(&r.slot.queue_id));
    let changes: Vec<Change> = mine.map(|r| binding(r, envelope_id, secret, None)).collect();
    assert_eq!(changes.len(), queue_ids.len());
    commit(index, changes);
}

fn binding(record: &StoredRecord, envelope_id: &str, secret: &str, expires: Option<i64>) -> Change {
    let certifier = Secret::from_base64(secret).unwrap().certifier();
    change(record, &Bind { envelope_id, certifier: &certifier, expires, recipient: None, by: "test", now: 0 }).unwrap()
}

fn commit(index: &Index, changes: Vec<Change>) {
    let store = index.store();
    crate::support::committer(&store).commit(Work { changes, ..Work::default() }).unwrap();
}

/// The index as the server reads it.
pub fn view(index: &Index) -> View {
    View::new(Arc::new(index.store()), Arc::default())
}

/// A server that goes with the test.
pub struct Server {
    pub runtime: Runtime,
    pub handle: Option<Handle>,
    pub plain: SocketAddr,
    pub tls: Option<SocketAddr>,
    store: Arc<Store>,
    pub open: Arc<OpenRecords>,
}

impl Server {
    /// Something was committed by somebody else: what the daemon's writer, by which all commits go, does after each.
    pub fn committed(&self) {
        self.store.reload().unwrap();
        self.open.stored_elsewhere();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(h) = self.handle.take() {
            self.runtime.block_on(h.stop(Duration::ZERO));
        }
    }
}

pub fn config(text: &str) -> ServerConfig {
    toml::from_str(text).unwrap()
}

/// Serves an index on a free port of loopback.
pub fn serve(index: &Index, config: ServerConfig) -> Server {
    serve_at(index, config, "127.0.0.1:0", clock)
}

pub fn serve_at(index: &Index, mut config: ServerConfig, listen: &str, clock: fn() -> i64) -> Server {
    config.listen = vec![listen.parse().unwrap()];
    if !config.certificates.is_empty() {
        config.listen_tls = vec!["127.0.0.1:0".parse().unwrap()];
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (store, open) = (Arc::new(index.store()), Arc::new(OpenRecords::default()));
    let view = View::new(Arc::clone(&store), Arc::clone(&open));
    let tracker = Arc::new(ViewTracker { view, figures: Arc::default(), queries: Arc::default() });
    let handle = runtime.block_on(spawn(config, tracker, clock)).unwrap();
    let (plain, tls) = (handle.plain_addresses()[0], handle.tls_addresses().first().copied());
    Server { runtime, handle: Some(handle), plain, tls, store, open }
}

/// A self-signed certificate for names, in files.
pub fn certificate(dir: &Path, stem: &str, names: &[&str]) -> Certificate {
    let made = rcgen::generate_simple_self_signed(names.iter().map(|n| n.to_string()).collect::<Vec<_>>()).unwrap();
    let (chain, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Certificate { chain, key }
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(to).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    s.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    s
}

/// Sends all, closes our half, and returns all that comes.
pub fn talk(to: SocketAddr, input: &[u8]) -> String {
    let mut s = connect(to);
    s.write_all(input).unwrap();
    let _ = s.shutdown(std::net::Shutdown::Write);
    let mut said = Vec::new();
    let _ = s.read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}

/// One response, raw.
pub fn response(s: &mut impl std::io::Read) -> String {
    let mut said = Vec::new();
    let mut byte = [0u8];
    let is_whole = |said: &[u8]| {
        let multi = said.starts_with(b"+OK+");
        if multi { said.ends_with(b"\r\n.\r\n") } else { said.ends_with(b"\r\n") }
    };
    while !is_whole(&said) {
        match s.read(&mut byte) {
            Ok(1) => said.push(byte[0]),
            other => panic!("{other:?} after {}", String::from_utf8_lossy(&said)),
        }
    }
    String::from_utf8(said).unwrap()
}
