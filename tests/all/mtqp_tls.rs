//! TLS: STARTTLS and implicit, certificates by name, and other people's clients.

use crate::mtqp_support::*;
use crate::support::{Index, msgtrk};
use msgtrk::mtqp::config::{Certificate, ServerConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

const ID: &str = "12345-20010101@example.com";

fn index() -> Index {
    let index = index_of(&std::fs::read_to_string("tests/golden/mtqp/06-delivered/log").unwrap());
    bind(&index, "4Abc01", ID, SECRET, None);
    index
}

/// A server for a.test and b.test.
fn tls_config(index: &Index, more: &str) -> ServerConfig {
    let mut c = config(more);
    c.certificates =
        vec![certificate(index.dir.path(), "a", &["mx.a.test"]), certificate(index.dir.path(), "b", &["mx.b.test", "*.c.test"])];
    c
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A handshake that trusts one of the server's certificates only.
fn shake(
    tcp: TcpStream,
    index: &Index,
    stem: &str,
    name: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(index.dir.path().join(format!("{stem}.pem"))).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_string()).unwrap()).unwrap();
    let mut tls = StreamOwned::new(session, tcp);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

fn starttls(server: &Server, command: &str) -> (TcpStream, String) {
    let mut s = connect(server.plain);
    assert!(response(&mut s).contains("STARTTLS\r\n"));
    s.write_all(command.as_bytes()).unwrap();
    let said = response(&mut s);
    (s, said)
}

const AFTER: &str = "+OK/MTQP MTQP server ready\r\n";

#[test]
fn rfc3887_6_starttls_shows_the_certificate_of_the_name_that_was_asked_for() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    for (name, stem) in [("mx.a.test", "a"), ("mx.b.test", "b"), ("x.c.test", "b")] {
        for versions in [BOTH, &[&rustls::version::TLS12]] {
            let (s, said) = starttls(&server, &format!("STARTTLS {name}\r\n"));
            assert!(said.starts_with("+OK "), "{said}");
            let mut tls = shake(s, &index, stem, name, versions).unwrap();
            assert_eq!(response(&mut tls), AFTER, "6.2: no STARTTLS option");
            tls.write_all(b"STARTTLS mx.a.test\r\n").unwrap();
            assert!(response(&mut tls).starts_with("-BAD/tls-in-progress "));
            tls.write_all(format!("TRACK <{ID}> {SECRET}\r\n").as_bytes()).unwrap();
            assert!(response(&mut tls).contains("Action: delivered"));
        }
    }
    let (mut s, said) = starttls(&server, "STARTTLS other.test\r\n");
    assert!(said.starts_with("-BAD/bad-fqdn "), "{said}");
    s.write_all(b"COMMENT the session goes on\r\n").unwrap();
    assert_eq!(response(&mut s), "+OK\r\n");
}

#[test]
fn n1_plaintext_behind_starttls_is_never_answered() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let (s, said) = starttls(&server, &format!("STARTTLS mx.a.test\r\nTRACK <{ID}> {SECRET}\r\nCOMM"));
    assert!(said.starts_with("+OK "));
    let mut tls = shake(s, &index, "a", "mx.a.test", BOTH).unwrap();
    assert_eq!(response(&mut tls), AFTER);
    tls.write_all(b"ENT\r\nQUIT\r\n").unwrap();
    let mut rest = String::new();
    let _ = tls.read_to_string(&mut rest);
    assert_eq!(rest, "-BAD no such command\r\n+OK bye\r\n");
}

#[test]
fn rfc3887_6_1_a_failed_handshake_ends_the_connection() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let (mut s, _) = starttls(&server, "STARTTLS mx.a.test\r\n");
    s.write_all(b"TRACK a@b YWJj\r\nTRACK a@b YWJj\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = s.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("-ERR"), "{rest:?}");
}

#[test]
fn rfc3887_6_1_a_version_that_is_not_good_enough_gets_insecure() {
    let index = index();
    let server = serve(&index, tls_config(&index, "least_tls_version = \"1.3\""));
    let (s, _) = starttls(&server, "STARTTLS mx.a.test\r\n");
    let mut tls = shake(s, &index, "a", "mx.a.test", &[&rustls::version::TLS12]).unwrap();
    response(&mut tls);
    tls.write_all(format!("TRACK <{ID}> {SECRET}\r\n").as_bytes()).unwrap();
    assert!(response(&mut tls).starts_with("-ERR/insecure "));
    tls.write_all(b"QUIT\r\n").unwrap();
    assert!(response(&mut tls).starts_with("+OK"));
}

#[test]
fn rfc3887_4_tls_required_by_domain() {
    let index = index();
    let server = serve(&index, tls_config(&index, "require_tls_for = [\"example.com\"]"));
    let mut s = connect(server.plain);
    assert!(response(&mut s).contains("STARTTLS required\r\n"));
    s.write_all(format!("TRACK <{ID}> {SECRET}\r\n").as_bytes()).unwrap();
    assert!(response(&mut s).starts_with("-ERR/tls-required "));
}

#[test]
fn tls_from_the_first_byte_and_certificates_read_again() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let to = server.tls.unwrap();
    for (name, stem) in [("mx.a.test", "a"), ("mx.b.test", "b")] {
        let mut tls = shake(connect(to), &index, stem, name, BOTH).unwrap();
        assert_eq!(response(&mut tls), AFTER);
        tls.write_all(format!("TRACK <{ID}> {SECRET}\r\n").as_bytes()).unwrap();
        assert!(response(&mut tls).contains("Action: delivered"));
    }
    // A new certificate; then files that are none: the one in use stays.
    let handle = server.handle.as_ref().unwrap();
    let old = std::fs::read(index.dir.path().join("a.pem")).unwrap();
    certificate(index.dir.path(), "a", &["mx.a.test"]);
    handle.reload_certificates().unwrap();
    assert!(shake(connect(to), &index, "a", "mx.a.test", BOTH).is_ok());
    std::fs::write(index.dir.path().join("a.key"), "no key").unwrap();
    let e = handle.reload_certificates().unwrap_err();
    assert!(e.to_string().contains("a.key"), "{e}");
    assert!(shake(connect(to), &index, "a", "mx.a.test", BOTH).is_ok());
    std::fs::write(index.dir.path().join("a.pem"), old).unwrap();
    assert!(shake(connect(to), &index, "a", "mx.a.test", BOTH).is_err(), "the old one is not shown any more");
}

#[test]
fn the_client_requires_prefers_or_leaves_tls_and_notices_when_it_is_gone() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let plain = serve(&index, config(""));
    let path = |n: &str| index.dir.path().join(n).display().to_string();
    let url = format!("mtqp://mx.a.test/track/{ID}/{SECRET}");
    let memory = path("memory");
    let ask = |to: &Server, more: &[&str]| {
        let name = format!("mx.a.test={}", to.plain);
        msgtrk(index.dir.path(), &[&["track", &url, "--json", "--resolve", &name, "--memory", &memory][..], more].concat())
    };
    assert_eq!(ask(&server, &["--tls", "require"]).status.code(), Some(2), "nobody vouches for it");
    assert!(ask(&server, &["--tls", "require", "--ca", &path("a.pem")]).status.success());
    assert!(ask(&server, &[]).status.success());
    assert!(ask(&server, &["--tls", "off"]).status.success());
    assert_eq!(ask(&plain, &["--tls", "require", "--ca", &path("a.pem")]).status.code(), Some(2));
    let gone = ask(&plain, &[]);
    assert!(gone.status.success());
    assert!(String::from_utf8_lossy(&gone.stderr).contains("offered TLS before"), "{gone:?}");
}

/// A server that reads the client's first command in the clear, answers it, with more behind its answer, and shakes hands; then
/// greets, and answers one TRACK. Gives what came in the clear, and what came over TLS.
fn fake(certificate: &Certificate) -> (std::net::SocketAddr, std::thread::JoinHandle<(String, String)>) {
    let pem = |p: &std::path::Path| std::fs::read(p).unwrap();
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem(&certificate.chain)).map(|c| c.unwrap()).collect();
    let key = PrivateKeyDer::from_pem_slice(&pem(&certificate.key)).unwrap();
    let builder = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.write_all(b"+OK+/MTQP ready\r\nSTARTTLS\r\n.\r\n").unwrap();
        let mut clear = [0; 512];
        let n = tcp.read(&mut clear).unwrap();
        let clear = String::from_utf8_lossy(&clear[..n]).into_owned();
        // What somebody in the middle would add: a greeting, and an answer to the TRACK that is to come.
        tcp.write_all(b"+OK go on\r\n+OK/MTQP injected\r\n-ERR/noinfo injected\r\n").unwrap();
        let mut session = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut tls = rustls::Stream::new(&mut session, &mut tcp);
        tls.write_all(b"+OK/MTQP ready\r\n").unwrap();
        let mut secret = [0; 512];
        let n = tls.read(&mut secret).unwrap();
        tls.write_all(b"-ERR/noinfo the real answer\r\n").unwrap();
        let _ = tls.flush();
        let _ = tls.read(&mut [0; 512]);
        (clear, String::from_utf8_lossy(&secret[..n]).into_owned())
    });
    (at, thread)
}

#[test]
fn rfc3887_6_the_client_names_the_host_begins_tls_at_once_and_forgets_what_came_before() {
    let index = index();
    let own = certificate(index.dir.path(), "fake", &["mx.a.test"]);
    let (at, server) = fake(&own);
    let options = {
        let roots = msgtrk::mtqp::tls::roots(Some(&own.chain)).unwrap();
        msgtrk::mtqp::client::Options::new(msgtrk::mtqp::client::TlsMode::Require, roots)
    };
    let target = msgtrk::mtqp::names::Target { name: "mx.a.test".into(), address: at, listed: true };
    let secret = msgtrk::mtqp::command::Secret::from_base64(SECRET).unwrap();
    let claim = msgtrk::mtqp::command::Claim { envelope_id: ID.into(), secret };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let replies = runtime.block_on(async {
        let mut connection = msgtrk::mtqp::client::connect(&[target], &options).await.unwrap();
        connection.track(&[claim]).await.unwrap()
    });
    assert_eq!(replies[0].text, "the real answer");
    let (clear, over_tls) = server.join().unwrap();
    assert_eq!(clear, "STARTTLS mx.a.test\r\n");
    assert!(over_tls.starts_with("TRACK "), "{over_tls}");
}

/// Runs another client with input, and gives its output; `None` (and a word) where it is not installed.
fn other(program: &str, args: &[&str], input: &str) -> Option<String> {
    let child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: {program} is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    // Some clients end with their input: it is held open until the server has closed.
    let feed = std::thread::spawn(move || {
        let _ = stdin.write_all(input.as_bytes());
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    let out = child.wait_with_output().unwrap();
    feed.join().unwrap();
    Some(String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn openssl_s_client_talks_to_it() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let to = server.tls.unwrap().to_string();
    for version in ["-tls1_2", "-tls1_3"] {
        let args = ["s_client", "-quiet", "-crlf", version, "-servername", "mx.a.test", "-connect", &to];
        let Some(said) = other("openssl", &args, &format!("TRACK <{ID}> {SECRET}\nQUIT\n")) else { return };
        assert!(said.contains("Action: delivered") && said.contains("+OK bye"), "{said}");
    }
    for old in ["-tls1", "-tls1_1"] {
        let args = ["s_client", "-quiet", "-crlf", old, "-connect", &to];
        let said = other("openssl", &args, "QUIT\n").unwrap_or_default();
        assert!(!said.contains("+OK"), "RFC 8996: {old} is spoken");
    }
}

#[test]
fn socat_and_nc_talk_to_it() {
    let index = index();
    let server = serve(&index, config(""));
    let input = format!("TRACK <{ID}> {SECRET}\r\nQUIT\r\n");
    let (ip, port) = (server.plain.ip().to_string(), server.plain.port().to_string());
    let socat = format!("TCP:{}", server.plain);
    for (program, args) in [("socat", vec!["-", &socat]), ("nc", vec![&ip, &port])] {
        let Some(said) = other(program, &args, &input) else { continue };
        assert!(said.contains("Action: delivered") && said.contains("+OK bye"), "{program}: {said}");
    }
}

const PYTHON: &str = r#"
import socket, ssl, sys
host, port, ca, ident, secret = sys.argv[1:6]
s = socket.create_connection((host, int(port)), 20)
f = s.makefile("rb")
greeting = []
while not greeting or greeting[-1] != b".\r\n":
    greeting.append(f.readline())
assert greeting[1] == b"STARTTLS\r\n", greeting
s.sendall(b"STARTTLS mx.a.test\r\n")
assert f.readline().startswith(b"+OK"), "STARTTLS"
cx = ssl.create_default_context(cafile=ca)
t = cx.wrap_socket(s, server_hostname="mx.a.test")
t.sendall(("TRACK <%s> %s\r\nQUIT\r\n" % (ident, secret)).encode())
print(t.version())
while True:
    data = t.recv(65536)
    if not data:
        break
    sys.stdout.write(data.decode())
"#;

#[test]
fn pythons_ssl_module_talks_to_it() {
    let index = index();
    let server = serve(&index, tls_config(&index, ""));
    let ca = index.dir.path().join("a.pem").display().to_string();
    let (ip, port) = (server.plain.ip().to_string(), server.plain.port().to_string());
    let Some(said) = other("python3", &["-c", PYTHON, &ip, &port, &ca, ID, SECRET], "") else { return };
    assert!(said.starts_with("TLSv1.3") && said.contains("Action: delivered") && said.contains("+OK bye"), "{said}");
}
