//! `cargo bench --bench mtqp`: TRACKs a second and how long they take, plain and over TLS, beside redis-server's GET.
//!
//! Twice: with every answer looked up, and with answers kept until something is committed (the default), where a client that
//! asks again costs no look-up. An index of synthetic records, a server in this process, clients on a runtime of their own; every client sends a
//! TRACK, reads the answer, sends the next. Environment: `MSGTRK_BENCH_RECORDS` (default 100000),
//! `MSGTRK_BENCH_SECONDS` a measurement (default 5), `MSGTRK_BENCH_CONNECTIONS` (default `1,50,1000`).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use msgtrk::daemon::tracker::ViewTracker;
use msgtrk::ingest::commit::{Committer, Sink, Work};
use msgtrk::ingest::open::View;
use msgtrk::ledger::Change;
use msgtrk::model::event::{Action, Field, Head, Kind, Span, encode};
use msgtrk::model::record::{Role, Slot};
use msgtrk::model::time::{Precision, SECOND};
use msgtrk::mtqp::command::Secret;
use msgtrk::mtqp::config::{Certificate, ServerConfig};
use msgtrk::mtqp::server::spawn;
use msgtrk::store::Store;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BEGAN: i64 = 1_767_225_600;
/// Every so many records can be tracked.
const TRACKABLE: usize = 100;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).ok().map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}: {v} is no number")))
}

fn clock() -> i64 {
    BEGAN + 86_400
}

fn event(out: &mut Vec<u8>, kind: Kind, action: Option<Action>, at: i64, fields: &[(Field, &str)]) {
    let mut text = String::new();
    let mut spans = Vec::new();
    for (field, value) in fields {
        spans.push(Span { field: *field, start: text.len() as u32, len: value.len() as u32 });
        text.push_str(value);
        text.push(' ');
    }
    let head = Head { kind, action, time: at * SECOND, precision: Precision::Second, written: at, ordinal: 0 };
    encode(out, &head, &spans, text.as_bytes(), b"");
}

fn envelope_id(n: usize) -> String {
    format!("bench-{n}@sender.test")
}

fn secret(n: usize) -> Secret {
    Secret::new(format!("secret of message {n:08}").into_bytes())
}

/// Record `n`: even ones are handed on to the odd one behind them.
fn record(n: usize) -> Change {
    let (first, id) = (n.is_multiple_of(2), format!("4Z{n:010x}"));
    let at = BEGAN + (n / 20) as i64;
    let host = if first { "mx.bench.test" } else { "store.bench.test" };
    let client = if first { ("out.sender.test", "198.51.100.7") } else { ("mx.bench.test", "192.0.2.1") };
    let (message_id, who) = (format!("m{}@sender.test", n / 2), format!("user{}@bench.test", n / 2 % 5000));
    let next = format!("4Z{:010x}", n + 1);
    let mut events = Vec::new();
    event(&mut events, Kind::Arrival, None, at, &[(Field::ClientName, client.0), (Field::ClientIp, client.1)]);
    event(
        &mut events,
        Kind::Queued,
        None,
        at,
        &[(Field::MessageId, &message_id), (Field::EnvelopeFrom, "s@sender.test"), (Field::Size, "4711")],
    );
    let mut fields = vec![(Field::FinalRecipient, who.as_str()), (Field::Status, "2.0.0")];
    if first {
        fields.extend([(Field::RemoteMta, "store.bench.test"), (Field::RemoteIp, "192.0.2.2"), (Field::RemoteQueueId, next.as_str())]);
    }
    event(&mut events, Kind::Attempt, Some(if first { Action::Relayed } else { Action::Delivered }), at + 1, &fields);
    event(&mut events, Kind::Closed, None, at + 1, &[]);
    if n.is_multiple_of(TRACKABLE) {
        event(
            &mut events,
            Kind::Binding,
            None,
            at + 1,
            &[(Field::EnvelopeId, &envelope_id(n)), (Field::Certifier, &secret(n).certifier())],
        );
    }
    let slot = Slot { host: host.into(), instance: "postfix".into(), queue_id: id };
    Change { slot, mta: "postfix".into(), role: Role::Hop, reused: false, events }
}

fn fill(store: &Store, records: usize) {
    let mut committer = Committer::new(store).unwrap();
    let all: Vec<usize> = (0..records).collect();
    for block in all.chunks(50_000) {
        committer.commit(Work { changes: block.iter().map(|n| record(*n)).collect(), ..Work::default() }).unwrap();
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn open(to: SocketAddr, tls: Option<tokio_rustls::TlsConnector>) -> Box<dyn Stream> {
    let tcp = TcpStream::connect(to).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = rustls::pki_types::ServerName::try_from("bench.test").unwrap();
    let mut stream: Box<dyn Stream> = match tls {
        Some(c) => Box::new(c.connect(name, tcp).await.unwrap()),
        None => Box::new(tcp),
    };
    let greeting = read(&mut stream, b"\r\n").await;
    if greeting.starts_with(b"+OK+") && !greeting.ends_with(b"\r\n.\r\n") {
        read(&mut stream, b".\r\n").await;
    }
    stream
}

async fn read(stream: &mut Box<dyn Stream>, end: &[u8]) -> Vec<u8> {
    let mut said = Vec::new();
    let mut buffer = [0u8; 8192];
    while !said.ends_with(end) {
        let n = stream.read(&mut buffer).await.unwrap();
        assert!(n > 0, "closed: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..n]);
    }
    said
}

/// One client until `end`: how long each TRACK took.
async fn client(mut stream: Box<dyn Stream>, begin: usize, trackable: usize, end: Instant) -> Vec<Duration> {
    let mut took = Vec::new();
    let mut n = begin;
    while Instant::now() < end {
        n = (n * 31 + 7) % trackable;
        let id = n * TRACKABLE;
        let line = format!("TRACK {} {}\r\n", envelope_id(id), secret(id).to_base64());
        let sent = Instant::now();
        stream.write_all(line.as_bytes()).await.unwrap();
        let said = read(&mut stream, b"\r\n.\r\n").await;
        took.push(sent.elapsed());
        assert!(said.starts_with(b"+OK+") && said.windows(9).any(|w| w == b"delivered"), "{}", String::from_utf8_lossy(&said));
    }
    took
}

fn measure(
    runtime: &Runtime,
    to: SocketAddr,
    tls: Option<Arc<rustls::ClientConfig>>,
    connections: usize,
    trackable: usize,
    time: Duration,
) {
    let name = if tls.is_some() { "TLS" } else { "plain" };
    let took = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..connections {
            streams.push(open(to, tls.clone().map(tokio_rustls::TlsConnector::from)).await);
        }
        let end = Instant::now() + time;
        let tasks: Vec<_> = streams.into_iter().enumerate().map(|(n, s)| tokio::spawn(client(s, n, trackable, end))).collect();
        let mut took = Vec::new();
        for t in tasks {
            took.extend(t.await.unwrap());
        }
        took
    });
    let mut took = took;
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let rate = took.len() as f64 / time.as_secs_f64();
    println!("{name:<6} {connections:>5} connections  {rate:>9.0} TRACK/s   p50 {:>9.3?}   p99 {:>9.3?}", at(0.5), at(0.99));
}

/// GETs a second of redis-server at 50 connections, on the same machine in the same run.
fn redis(dir: &std::path::Path) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let args = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let Ok(mut server) = Command::new("redis-server").args(args).current_dir(dir).stdout(Stdio::null()).spawn() else {
        println!("redis-server is not installed: no comparison");
        return;
    };
    std::thread::sleep(Duration::from_secs(1));
    let out =
        Command::new("redis-benchmark").args(["-h", "127.0.0.1", "-p", &port, "-t", "get", "-c", "50", "-n", "200000", "-q"]).output();
    let _ = server.kill();
    let _ = server.wait();
    match out {
        Ok(out) => println!(
            "redis  {}",
            String::from_utf8_lossy(&out.stdout).split(['\r', '\n']).rfind(|l| l.contains("requests per second")).unwrap_or("?")
        ),
        Err(_) => println!("redis-benchmark is not installed: no comparison"),
    }
}

fn main() {
    let records = number("MSGTRK_BENCH_RECORDS", 100_000).max(2 * TRACKABLE);
    let time = Duration::from_secs(number("MSGTRK_BENCH_SECONDS", 5) as u64);
    let connections = std::env::var("MSGTRK_BENCH_CONNECTIONS").unwrap_or_else(|_| "1,50,1000".into());
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_or_create(&dir.path().join("index")).unwrap();
    let began = Instant::now();
    fill(&store, records);
    println!("index of {records} records in {:.1} s", began.elapsed().as_secs_f64());
    let made = rcgen::generate_simple_self_signed(vec!["bench.test".to_string()]).unwrap();
    let certificate = Certificate { chain: dir.path().join("cert.pem"), key: dir.path().join("key.pem") };
    std::fs::write(&certificate.chain, made.cert.pem()).unwrap();
    std::fs::write(&certificate.key, made.signing_key.serialize_pem()).unwrap();
    drop(store);
    let clients = Builder::new_multi_thread().enable_all().build().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let tls = Arc::new(builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth());
    for (how, kept) in [("each answer looked up:", 0), ("answers kept:", ServerConfig::default().limits.max_kept_answers_kibibytes)] {
        println!("{how}");
        let mut config = ServerConfig { certificates: vec![certificate.clone()], ..ServerConfig::default() };
        config.listen = vec!["127.0.0.1:0".parse().unwrap()];
        config.listen_tls = config.listen.clone();
        config.limits.max_connections = 4_000;
        config.limits.max_connections_per_client = 4_000;
        config.limits.max_commands = u64::MAX;
        config.limits.max_kept_answers_kibibytes = kept;
        let server = Builder::new_multi_thread().enable_all().build().unwrap();
        let store = Store::open(&dir.path().join("index")).unwrap();
        let tracker = ViewTracker { view: View::new(Arc::new(store), Arc::default()), figures: Arc::default(), queries: Arc::default() };
        let handle = server.block_on(spawn(config, Arc::new(tracker), clock)).unwrap();
        for n in connections.split(',').map(|n| n.trim().parse().unwrap()) {
            measure(&clients, handle.plain_addresses()[0], None, n, records / TRACKABLE, time);
            measure(&clients, handle.tls_addresses()[0], Some(tls.clone()), n, records / TRACKABLE, time);
        }
        server.block_on(handle.stop(Duration::from_secs(1)));
    }
    redis(dir.path());
}
