//! Tracking servers (RFC 3887, 2; RFC 2782) and next hosts (RFC 5321, 5.1) by a real name server: dnsmasq on a loopback port; passed
//! over where it is not installed.

use crate::mtqp_support::*;
use crate::support::{Index, msgtrk};
use msgtrk::mtqp::names::{Names, NamesError};
use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ID: &str = "dns-1@sender.test";

/// A name server that knows `.test`, as long as it lives.
struct NameServer {
    child: Child,
    at: SocketAddr,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl NameServer {
    /// `None`, and a word, where there is no dnsmasq. Records are its options.
    fn start(records: &[String]) -> Option<Self> {
        let program = ["dnsmasq", "/usr/sbin/dnsmasq"].into_iter().find(|p| Command::new(p).arg("--version").output().is_ok());
        let Some(program) = program else {
            eprintln!("skipped: dnsmasq is not installed");
            return None;
        };
        // A port that is free for UDP and TCP just now; another process may take it in between.
        for _ in 0..20 {
            let at = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let fixed = ["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/test/"];
            let place = [format!("--port={}", at.port()), "--listen-address=127.0.0.1".into(), "--pid-file=".into()];
            let mut command = Command::new(program);
            command.args(fixed).args(place).args(records).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = NameServer { child: command.spawn().unwrap(), at };
            if server.answers() {
                return Some(server);
            }
        }
        panic!("dnsmasq does not start");
    }

    /// Whether it is there: false once it has ended.
    fn answers(&mut self) -> bool {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        socket.connect(self.at).unwrap();
        // The addresses of `ready.test`.
        let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x05ready\x04test\0\0\x01\0\x01";
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            if socket.send(question).is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

fn srv(host: &str, target: &str, port: u16, priority: u16, weight: u16) -> String {
    format!("--srv-host=_mtqp._tcp.{host},{target},{port},{priority},{weight}")
}

fn host(name: &str, address: &str) -> String {
    format!("--host-record={name},{address}")
}

/// Addresses in order, by a resolver made for each look-up, so that nothing comes out of its memory.
fn found(server: &NameServer, host: &str, port: Option<u16>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let names = Names::by_dns(&BTreeMap::new(), &[server.at]);
    let targets = runtime.block_on(names.servers(host, port)).unwrap_or_else(|e| panic!("{host}: {e}"));
    assert!(targets.iter().all(|t| t.name == host && !t.listed), "the certificate's name is the host asked for: {targets:?}");
    targets.iter().map(|t| t.address.to_string()).collect()
}

#[test]
fn rfc3887_2_srv_records_come_first_in_their_order_then_addresses() {
    let Some(server) = NameServer::start(&[
        srv("mx.b.test", "second.b.test", 1040, 20, 0),
        srv("mx.b.test", "first.b.test", 1039, 10, 0),
        host("first.b.test", "192.0.2.1,2001:db8::1"),
        host("second.b.test", "192.0.2.2"),
        host("mx.b.test", "192.0.2.9"),
        srv("shared.test", "heavy.test", 1, 5, 65535),
        srv("shared.test", "light.test", 2, 5, 0),
        host("heavy.test", "192.0.2.3"),
        host("light.test", "192.0.2.4"),
        host("plain.test", "192.0.2.7,2001:db8::7"),
        "--cname=alias.test,plain.test".into(),
        srv("half.test", "nowhere.test", 1, 1, 0),
        srv("half.test", "alias.test", 2, 2, 0),
        "--srv-host=_mtqp._tcp.none.test".into(),
        host("none.test", "192.0.2.8"),
    ]) else {
        return;
    };
    assert_eq!(found(&server, "mx.b.test", None), ["[2001:db8::1]:1039", "192.0.2.1:1039", "192.0.2.2:1040"]);
    // A port that the URL names is the host's own.
    assert_eq!(found(&server, "mx.b.test", Some(7)), ["192.0.2.9:7"]);
    // Of one priority by weight: 65535 to nothing.
    let heavy_first = (0..30).filter(|_| found(&server, "shared.test", None) == ["192.0.2.3:1", "192.0.2.4:2"]).count();
    assert!(heavy_first >= 28, "{heavy_first} of 30");
    // No SRV record (here: no such name at all): addresses, port 1038. An alias is the host it stands for.
    for name in ["plain.test", "alias.test"] {
        assert_eq!(found(&server, name, None), ["[2001:db8::7]:1038", "192.0.2.7:1038"], "{name}");
    }
    // A target without address is passed over.
    assert_eq!(found(&server, "half.test", None), ["[2001:db8::7]:2", "192.0.2.7:2"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let names = Names::by_dns(&BTreeMap::new(), &[server.at]);
    let ask = |host: &str| runtime.block_on(names.servers(host, None));
    assert!(matches!(ask("none.test"), Err(NamesError::Refused(_))), "a target of `.` says no: its addresses are not asked");
    assert!(matches!(ask("unknown.test"), Err(NamesError::NoAddress(_))));
    // Outside `.test` it says REFUSED: a name server that does not say is not no host.
    assert!(matches!(ask("mx.example"), Err(NamesError::Dns { .. })), "{:?}", ask("mx.example"));
}

/// The log of a message that `host` had from sender.test, and gave to `next` or a mailbox.
fn hop(host: &str, next: Option<&str>) -> Index {
    let line = |s: &str, rest: &str| format!("2001-01-01T15:15:{s}-05:00 {host} postfix/{rest}\n");
    let to = match next {
        Some(next) => format!(
            "smtp[9]: 4Abc01: to=<u@b.test>, relay={next}[192.0.2.9]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok)"
        ),
        None => {
            "local[9]: 4Abc01: to=<u@b.test>, relay=local, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (delivered to mailbox)"
                .into()
        }
    };
    let log = line("15", "smtpd[9]: 4Abc01: client=sender.test[192.0.2.8]")
        + &line("15", "cleanup[9]: 4Abc01: message-id=<m1@sender.test>")
        + &line("15", "qmgr[9]: 4Abc01: from=<s@sender.test>, size=500, nrcpt=1 (queue active)")
        + &line("16", &to)
        + &line("16", "qmgr[9]: 4Abc01: removed");
    let index = index_of(&log);
    bind(&index, "4Abc01", ID, SECRET, None);
    index
}

#[test]
fn rfc3887_2_a_dead_first_target_is_passed_over_by_client_chain_and_referral() {
    let (ia, ib) = (hop("mx.a.test", Some("mx.b.test")), hop("mx.b.test", None));
    let sb = serve_at(&ib, config(""), "127.0.0.2:0", clock);
    let dead = TcpListener::bind("127.0.0.3:0").unwrap().local_addr().unwrap();
    // Where A listens is known only once it does, and it asks by DNS: so it is given a port that is free just now.
    let at_a = TcpListener::bind("127.0.0.4:0").unwrap().local_addr().unwrap();
    let Some(dns) = NameServer::start(&[
        srv("mx.b.test", "dead.b.test", dead.port(), 10, 5),
        srv("mx.b.test", "live.b.test", sb.plain.port(), 20, 5),
        srv("mx.a.test", "a.test", at_a.port(), 10, 5),
        host("dead.b.test", "127.0.0.3"),
        host("live.b.test", "127.0.0.2"),
        host("a.test", "127.0.0.4"),
    ]) else {
        return;
    };
    let text = format!("[dns]\nservers = [\"{}\"]\n", dns.at);
    let file = ia.dir.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    let (file, memory) = (file.display().to_string(), ia.dir.path().join("memory").display().to_string());
    let track = |host: &str| {
        let url = format!("mtqp://{host}/track/{ID}/{SECRET}");
        let out = msgtrk(ia.dir.path(), &["track", &url, "--json", "--config", &file, "--memory", &memory]);
        assert!(out.status.success(), "{host}: {}", String::from_utf8_lossy(&out.stderr));
        let seen: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let r = &seen["recipients"][0];
        format!("{} at {}", r["action"].as_str().unwrap(), r["at"].as_str().unwrap())
    };
    assert_eq!(track("mx.b.test"), "delivered at mx.b.test");
    let asks = |allow: &str, answer: &str| {
        let mut c = config(&format!("[chain]\nask = [\"b.test\"]\nallow_addresses = [{allow}]\n[answer]\n{answer}"));
        c.name_servers = vec![dns.at];
        c
    };
    // By referral, then by chaining; and what the DNS alone says leads to no private address.
    let refers = serve_at(&ia, asks("", "tracking_domains = [\"b.test\"]"), &at_a.to_string(), clock);
    assert_eq!(track("mx.a.test"), "delivered at mx.b.test");
    drop(refers);
    let chains = serve_at(&ia, asks("\"127.0.0.0/8\"", ""), "127.0.0.5:0", clock);
    let said = talk(chains.plain, format!("TRACK <{ID}> {SECRET}\r\n").as_bytes());
    assert!(said.contains("Action: transferred") && said.contains("Action: delivered"), "{said}");
    let shut = serve_at(&ia, asks("", ""), "127.0.0.6:0", clock);
    let said = talk(shut.plain, format!("TRACK <{ID}> {SECRET}\r\n").as_bytes());
    assert!(said.contains("Action: relayed") && !said.contains("Action: delivered"), "{said}");
}

#[test]
fn rfc5321_5_1_next_hosts_by_mx_in_their_order_else_the_domains_own_addresses() {
    use msgtrk::smtp::hosts::{Dns, Hosts, NoHosts};
    let Some(server) = NameServer::start(&[
        "--mx-host=b.test,second.b.test,20".into(),
        "--mx-host=b.test,gone.b.test,5".into(),
        "--mx-host=b.test,first.b.test,10".into(),
        host("first.b.test", "192.0.2.1,2001:db8::1"),
        host("second.b.test", "192.0.2.2"),
        "--mx-host=equal.test,first.b.test,1".into(),
        "--mx-host=equal.test,second.b.test,1".into(),
        host("plain.test", "192.0.2.7"),
        "--cname=alias.test,plain.test".into(),
        "--mx-host=nowhere.test,gone.test,1".into(),
    ]) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let dns = Dns::by(&[server.at]).unwrap();
    let places = |domain: &str| {
        let found = runtime.block_on(dns.of(domain)).unwrap_or_else(|e| panic!("{e}"));
        found.into_iter().map(|n| format!("{} at {}", n.name, n.at.unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(
        places("b.test"),
        ["first.b.test:25 at [2001:db8::1]:25", "first.b.test:25 at 192.0.2.1:25", "second.b.test:25 at 192.0.2.2:25"]
    );
    for name in ["plain.test", "alias.test"] {
        assert_eq!(places(name), [format!("{name}:25 at 192.0.2.7:25")]);
    }
    // Of one preference by chance: the load is shared (5.1: MUST randomize).
    let firsts: std::collections::BTreeSet<String> = (0..40).map(|_| places("equal.test").remove(0)).collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
    let error = |domain: &str| runtime.block_on(dns.of(domain)).unwrap_err();
    assert!(matches!(error("unknown.test"), NoHosts::NoDomain(_)));
    assert!(matches!(error("nowhere.test"), NoHosts::NoAddress(_)));
    // Outside `.test` it says REFUSED: a name server that does not say is not no domain.
    assert!(matches!(error("mx.example"), NoHosts::Later(..)), "{:?}", error("mx.example"));
}

#[test]
fn the_gateway_behind_an_mta_asks_the_name_servers_of_the_config() {
    let Ok(next) = TcpListener::bind("127.0.0.7:25") else {
        eprintln!("skipped: port 25 of a loopback address cannot be had");
        return;
    };
    let dead = "--host-record=dead.b.test,127.0.0.8".to_string();
    let live = "--host-record=mx.b.test,127.0.0.7".to_string();
    let Some(dns) = NameServer::start(&["--mx-host=b.test,dead.b.test,1".into(), "--mx-host=b.test,mx.b.test,2".into(), dead, live]) else {
        return;
    };
    let served = std::thread::spawn(move || {
        let (mut s, _) = next.accept().unwrap();
        s.write_all(b"220 mx.b.test ESMTP\r\n").unwrap();
        let mut lines = std::io::BufReader::new(s.try_clone().unwrap());
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap_or(0) > 0 && !line.starts_with("RCPT") {
            s.write_all(b"250 2.0.0 mx.b.test\r\n").unwrap();
            line.clear();
        }
        s.write_all(b"250 2.1.5 heard by the next host\r\n").unwrap();
        line
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("c.toml");
    std::fs::write(&file, format!("[dns]\nservers = [\"{}\"]\n[smtp.out]\nlisten = \"127.0.0.1:0\"\n", dns.at)).unwrap();
    let (log, file) = (dir.path().join("mail.log"), file.display().to_string());
    std::fs::write(&log, "").unwrap();
    let mut p = crate::serve_support::Place::new();
    p.serve(&["--config", &file, "--watch", log.to_str().unwrap()]);
    let mut c = crate::smtp::daemon::Client::connect(crate::serve_support::address(&p.ready, "smtp-out").parse().unwrap());
    c.reply();
    assert!(c.ask("EHLO mta.test").starts_with("250"));
    assert!(c.ask("MAIL FROM:<a@a.test>").starts_with("250"));
    assert_eq!(c.ask("RCPT TO:<u@b.test>"), "250 2.1.5 heard by the next host\r\n");
    assert!(c.ask("RCPT TO:<u@unknown.test>").starts_with("452"), "one domain a transaction");
    assert!(served.join().unwrap().starts_with("RCPT TO:<u@b.test>"));
}
