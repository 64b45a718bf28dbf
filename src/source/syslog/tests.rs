//! Tests of the listener, its framing and its lines.

use super::*;
use crate::source::live::Live;
use std::time::Instant;
use tokio::io::AsyncWriteExt;

fn frames(framing: Framing, max: usize, input: &[u8], chunk: usize) -> (Vec<String>, u64) {
    let mut decoder = Decoder::new(framing, max);
    let mut out = Vec::new();
    input.chunks(chunk).for_each(|c| decoder.feed(c, &mut out));
    decoder.finish(&mut out);
    (out.iter().map(|m| String::from_utf8_lossy(m).into_owned()).collect(), decoder.cut())
}

#[test]
fn framing_is_the_same_in_chunks_of_any_size() {
    let input = b"<13>plain\n11 <13>counted<13>cr\r\n4294967296000 long number\n0 zero\n18 <13>two\nlines <13>\x0013 <13>ends\n\n\n\n\n2026-03-02T08:00:00Z host a: b\n99 <13>cut off";
    let (whole, cut) = frames(Framing::Syslog, 1000, input, input.len());
    let expected = [
        "<13>plain",
        "<13>counted",
        "<13>cr",
        "4294967296000 long number",
        "0 zero",
        "<13>two\nlines <13>",
        "<13>ends",
        "2026-03-02T08:00:00Z host a: b",
        "<13>cut off",
    ];
    assert_eq!(whole, expected);
    assert_eq!(cut, 1);
    for chunk in 1..40 {
        assert_eq!(frames(Framing::Syslog, 1000, input, chunk), (whole.clone(), cut), "chunks of {chunk}");
    }
}

#[test]
fn long_messages_are_cut_and_the_next_one_is_whole() {
    let mut input = b"50 ".to_vec();
    input.extend([b'x'; 50]);
    input.extend_from_slice(b"<13>");
    input.extend([b'y'; 50]);
    input.extend_from_slice(b"\nshort\n999999999 rest");
    for chunk in 1..30 {
        let (messages, cut) = frames(Framing::Syslog, 20, &input, chunk);
        assert_eq!(messages, ["x".repeat(20), format!("<13>{}", "y".repeat(16)), "short".into(), "rest".into()]);
        assert_eq!(cut, 3);
    }
    let (lines, cut) = frames(Framing::Newline, 20, b"12 not counted\nlast", 3);
    assert_eq!((lines, cut), (vec!["12 not counted".to_string(), "last".into()], 0));
}

#[test]
fn every_message_becomes_one_line_with_stamp_and_host() {
    let at = 1_772_438_400_123_456;
    let show = |m: &[u8]| String::from_utf8_lossy(&line(m, "192.0.2.7".parse().unwrap(), at).unwrap()).into_owned();
    let now = "2026-03-02T08:00:00.123456+00:00";
    assert_eq!(show(b"<22>Mar  2 08:00:00 mx1 postfix/qmgr[12]: 4A: removed"), "Mar  2 08:00:00 mx1 postfix/qmgr[12]: 4A: removed\n");
    assert_eq!(show(b"<22>Mar  2 08:00:00 postfix/qmgr[12]: 4A: removed"), "Mar  2 08:00:00 192.0.2.7 postfix/qmgr[12]: 4A: removed\n");
    assert_eq!(show(b"<22>postfix/qmgr[12]: 4A: removed"), format!("{now} 192.0.2.7 postfix/qmgr[12]: 4A: removed\n"));
    assert_eq!(show(b"<22>2026-03-02T07:00:00.5+01:00 mx1 a: b"), "2026-03-02T07:00:00.5+01:00 mx1 a: b\n");
    assert_eq!(show(b"<22>1 2026-03-02T07:00:00Z mx1 a 1 - - b"), "<22>1 2026-03-02T07:00:00Z mx1 a 1 - - b\n");
    assert_eq!(show(b"<22>1 - - a 1 - - b"), format!("<22>1 {now} 192.0.2.7 a 1 - - b\n"));
    // No sender makes two lines of one message.
    assert_eq!(
        show(b"<22>Mar  2 08:00:00 mx1 a: b\nMar  2 08:00:00 mx1 c: d\x1b"),
        "Mar  2 08:00:00 mx1 a: b#012Mar  2 08:00:00 mx1 c: d#033\n"
    );
    assert_eq!(show(b"<22>1 2026-03-02T07:00:00Z mx\n1 a 1 - - b"), "<22>1 2026-03-02T07:00:00Z mx#0121 a 1 - - b\n");
    for nothing in [&b""[..], b"<13>", b"\n\n", b"<13>  "] {
        assert_eq!(line(nothing, "::1".parse().unwrap(), at), None);
    }
    // Anything may come.
    let mut rng = crate::source::tests::history::Rng::new(7);
    for _ in 0..5000 {
        let len = rng.below(60);
        let alphabet = b"<>13 :-TMar[]\n\x00\xff0";
        let message: Vec<u8> = (0..len).map(|_| alphabet[rng.below(alphabet.len() as u64) as usize]).collect();
        if let Some(out) = line(&message, "::1".parse().unwrap(), at) {
            assert_eq!(out.iter().filter(|b| **b < 0x20).count(), 1, "{message:?}");
            assert_eq!(out.last(), Some(&b'\n'));
        }
    }
}

fn options() -> SyslogOptions {
    SyslogOptions::new(Arc::new(|| 1_772_438_400_000_000))
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Waits for `count` lines.
async fn lines_of(feed: &mut Feed, count: usize) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..500 {
        if let Some(lines) = feed.next(Instant::now()) {
            out.extend(String::from_utf8_lossy(&lines.bytes).lines().map(str::to_string));
        }
        if out.len() >= count {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn udp_and_tcp_arrive() {
    let (mut feed, at) = syslog(SyslogOptions { udp: vec![any()], tcp: vec![any()], ..options() }, Arc::new(|| {})).await.unwrap();
    let udp = UdpSocket::bind(any()).await.unwrap();
    udp.send_to(b"<22>a: over udp", at.udp[0]).await.unwrap();
    assert_eq!(lines_of(&mut feed, 1).await, ["2026-03-02T08:00:00.000000+00:00 127.0.0.1 a: over udp"]);
    let mut tcp = TcpStream::connect(at.tcp[0]).await.unwrap();
    for byte in b"21 <22>Mar  2 08:00:00 m<22>Mar  2 08:00:00 mx1 a: line\nhalf" {
        tcp.write_all(&[*byte]).await.unwrap();
    }
    drop(tcp);
    let got = lines_of(&mut feed, 3).await;
    assert_eq!(got[1], "Mar  2 08:00:00 mx1 a: line");
    assert!(got[2].ends_with("127.0.0.1 half"));
    assert!(feed.problems().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_sender_waits_over_tcp_and_loses_over_udp() {
    let (mut feed, at) = syslog(SyslogOptions { udp: vec![any()], tcp: vec![any()], ..options() }, Arc::new(|| {})).await.unwrap();
    let address = at.tcp[0];
    let total = 200_000;
    let sending = tokio::spawn(async move {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let mut all = Vec::new();
        for n in 0..total {
            all.extend_from_slice(format!("<22>Mar  2 08:00:00 mx1 a: {n} {}\n", "x".repeat(500)).as_bytes());
            if all.len() > 60_000 {
                tcp.write_all(&all).await.unwrap();
                all.clear();
            }
        }
        tcp.write_all(&all).await.unwrap();
    });
    let until = async |what: &str, is: &dyn Fn() -> bool| {
        for _ in 0..3000 {
            if is() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {what}");
    };
    let full = || feed.health()[0].behind == crate::source::feed::QUEUE as u64;
    until("full", &full).await;
    let udp = UdpSocket::bind(any()).await.unwrap();
    udp.send_to(b"<22>a: over udp", at.udp[0]).await.unwrap();
    until("dropped", &|| feed.health()[0].dropped == 1).await;
    assert!(!sending.is_finished(), "100 MB fit nowhere");
    assert!(feed.problems()[0].text.contains("some are dropped"));
    let got = lines_of(&mut feed, total).await;
    assert_eq!(got.iter().filter(|l| l.contains(" mx1 ")).count(), total);
    for (n, line) in got.iter().filter(|l| l.contains(" mx1 ")).enumerate() {
        assert!(line.contains(&format!("a: {n} ")), "{n}: {line}");
    }
    assert_eq!(got.len(), total, "the one over UDP is lost, and counted");
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded_and_silent_ones_closed() {
    let bounds = SyslogOptions { tcp: vec![any()], max_per_address: 2, idle: Duration::from_millis(400), ..options() };
    let (mut feed, at) = syslog(bounds, Arc::new(|| {})).await.unwrap();
    let mut first = TcpStream::connect(at.tcp[0]).await.unwrap();
    let _second = TcpStream::connect(at.tcp[0]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut third = TcpStream::connect(at.tcp[0]).await.unwrap();
    let mut buf = [0; 1];
    let closed = timeout(Duration::from_millis(250), third.read(&mut buf)).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "the third is closed at once");
    assert!(feed.problems()[0].text.contains("more connections"));
    let silent = timeout(Duration::from_secs(5), first.read(&mut buf)).await;
    assert!(matches!(silent, Ok(Ok(0))), "the silent one is closed in time");
    let mut again = TcpStream::connect(at.tcp[0]).await.unwrap();
    again.write_all(b"<22>a: b\n").await.unwrap();
    assert_eq!(lines_of(&mut feed, 1).await.len(), 1);
    assert_eq!(group_of("2001:db8:1:2:3::4".parse().unwrap()), group_of("2001:db8:1:2::9".parse().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_arrives_and_noise_does_not_hold_a_place() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let bounds = SyslogOptions {
        tls: vec![any()],
        tls_config: Some(Arc::new(config)),
        max_per_address: 1,
        handshake: Duration::from_millis(300),
        ..options()
    };
    let (mut feed, at) = syslog(bounds, Arc::new(|| {})).await.unwrap();
    let mut noise = TcpStream::connect(at.tls[0]).await.unwrap();
    noise.write_all(b"<22>a: not tls\n").await.unwrap();
    let mut buf = [0; 64];
    let ended = timeout(Duration::from_secs(5), async { while matches!(noise.read(&mut buf).await, Ok(n) if n > 0) {} }).await;
    assert!(ended.is_ok());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let socket = TcpStream::connect(at.tls[0]).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut tls = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    tls.write_all(b"27 <22>Mar  2 08:00:00 mx a: b").await.unwrap();
    tls.shutdown().await.unwrap();
    assert_eq!(lines_of(&mut feed, 1).await, ["Mar  2 08:00:00 mx a: b"]);
}
