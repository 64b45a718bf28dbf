//! Chaining and referral: several servers on loopback, each with its own domain and records.

use crate::mtqp_support::*;
use crate::support::{Index, msgtrk};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

const ID: &str = "chain-1@sender.test";

/// The log of one hop: `host` had the message from `client` and gave it to `next`, or to a mailbox.
fn log(host: &str, client: &str, next: Option<&str>) -> String {
    let to = match next {
        Some(next) => format!(
            "smtp[9]: 4Abc01: to=<u@c.test>, relay={next}[192.0.2.9]:25, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 9Zzz09)"
        ),
        None => {
            "local[9]: 4Abc01: to=<u@c.test>, relay=local, delay=1, delays=0.1/0/0.4/0.5, dsn=2.0.0, status=sent (delivered to mailbox)"
                .into()
        }
    };
    let line = |s: &str, rest: &str| format!("2001-01-01T15:15:{s}-05:00 {host} postfix/{rest}\n");
    line("15", &format!("smtpd[9]: 4Abc01: client={client}[192.0.2.8]"))
        + &line("15", "cleanup[9]: 4Abc01: message-id=<m1@sender.test>")
        + &line("15", "qmgr[9]: 4Abc01: from=<s@sender.test>, size=500, nrcpt=1 (queue active)")
        + &line("16", &to)
        + &line("16", "qmgr[9]: 4Abc01: removed")
}

fn hop(host: &str, client: &str, next: Option<&str>) -> Index {
    let index = index_of(&log(host, client, next));
    bind(&index, "4Abc01", ID, SECRET, None);
    index
}

fn a() -> Index {
    hop("mx.a.test", "sender.test", Some("mx.b.test"))
}

fn b() -> Index {
    hop("mx.b.test", "mx.a.test", Some("mx.c.test"))
}

fn c() -> Index {
    hop("mx.c.test", "mx.b.test", None)
}

/// A config that asks everybody, with these names.
fn asks(names: &[(&str, SocketAddr)], more: &str) -> msgtrk::mtqp::config::ServerConfig {
    let mut c = config(&format!("[chain]\nask = [\"*\"]\n{more}"));
    c.resolve = names.iter().map(|(n, a)| (n.to_string(), *a)).collect();
    c
}

fn track(to: SocketAddr) -> String {
    talk(to, format!("TRACK <{ID}> {SECRET}\r\nQUIT\r\n").as_bytes())
}

/// Reporting hosts and actions, in order.
fn told(said: &str) -> Vec<String> {
    let data: String = said.lines().skip_while(|l| !l.starts_with("Content-Type: multipart")).map(|l| format!("{l}\n")).collect();
    let parts = msgtrk::trkstat::read(data.as_bytes()).unwrap_or_else(|e| panic!("{e}: {said}"));
    parts
        .iter()
        .flat_map(|p| p.recipients.iter().map(move |r| format!("{} {} {}", p.reporting_mta.name, r.action.as_str(), r.status)))
        .collect()
}

#[test]
fn a_message_from_a_to_b_to_c_is_tracked_from_a_by_chaining() {
    let (ia, ib, ic) = (a(), b(), c());
    let sc = serve_at(&ic, config(""), "127.0.0.3:0", clock);
    let sb = serve_at(&ib, asks(&[("mx.c.test", sc.plain)], ""), "127.0.0.2:0", clock);
    let sa = serve(&ia, asks(&[("mx.b.test", sb.plain)], ""));
    assert_eq!(told(&track(sa.plain)), ["mx.a.test transferred 2.4.0", "mx.b.test transferred 2.4.0", "mx.c.test delivered 2.0.0"]);
    // Two servers only: B asks nobody, and says what it knows.
    let sb = serve_at(&ib, config(""), "127.0.0.2:0", clock);
    let sa = serve(&ia, asks(&[("mx.b.test", sb.plain)], ""));
    assert_eq!(told(&track(sa.plain)), ["mx.a.test transferred 2.4.0", "mx.b.test relayed 2.1.9"]);
    // Listed domains only.
    let mut only = asks(&[("mx.b.test", sb.plain)], "");
    only.chain.ask = vec!["c.test".into()];
    assert_eq!(told(&track(serve(&ia, only).plain)), ["mx.a.test relayed 2.1.9"]);
}

#[test]
fn a_message_from_a_to_b_to_c_is_tracked_by_referral_with_the_client() {
    let (ia, ib, ic) = (a(), b(), c());
    let refer = |d: &str| config(&format!("[answer]\ntracking_domains = [\"{d}\"]"));
    let sc = serve_at(&ic, config(""), "127.0.0.3:0", clock);
    let sb = serve_at(&ib, refer("c.test"), "127.0.0.2:0", clock);
    let sa = serve(&ia, refer("b.test"));
    let memory = ia.dir.path().join("memory").display().to_string();
    let names = [("a", sa.plain), ("mx.b.test", sb.plain), ("mx.c.test", sc.plain)].map(|(n, a)| format!("{n}={a}"));
    let url = format!("mtqp://a/track/{ID}/{SECRET}");
    let mut args = vec!["track", &url, "--json", "--memory", &memory];
    for n in &names {
        args.extend(["--resolve", n]);
    }
    let ask = |args: &[&str]| -> serde_json::Value {
        let out = msgtrk(ia.dir.path(), args);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).unwrap()
    };
    let seen = ask(&args);
    assert_eq!(seen["records"].as_array().unwrap().len(), 3);
    assert_eq!(seen["edges"].as_array().unwrap().len(), 2);
    let end = &seen["recipients"][0];
    assert_eq!(
        (end["action"].as_str(), end["at"].as_str(), end["path"].as_array().unwrap().len()),
        (Some("delivered"), Some("mx.c.test"), 3)
    );
    args.push("--no-referrals");
    assert_eq!(ask(&args)["records"].as_array().unwrap().len(), 1);
    // The tree is that of `trace`.
    args.retain(|a| *a != "--no-referrals" && *a != "--json");
    let tree = String::from_utf8(msgtrk(ia.dir.path(), &args).stdout).unwrap();
    assert!(tree.contains("└─ ") && tree.contains("mx.c.test"), "{tree}");
}

/// What a gateway behind the MTA notes of a recipient's next host.
fn noted(server: &Server, host: &str, recipient: &str, next: &str, tracks: bool) {
    use msgtrk::smtp::binding::{Binder, Next, Place};
    let parsers = msgtrk::parse::Parsers::load(None).unwrap();
    let binder = Binder { open: server.open.clone(), bell: Default::default(), parsers, config: Default::default() };
    let place = Place { host: host.into(), mta: "postfix".into(), instance: "postfix".into() };
    let next = Next { host: next.into(), ip: Some("192.0.2.9".into()), tracks };
    binder.next_host(&place, b"4Abc01", recipient.as_bytes(), &next, 978_380_116_000_000).unwrap();
}

#[test]
fn rfc3886_3_3_3_a_host_that_took_the_mark_is_known_to_track_and_referred_to() {
    // The MTA's log names the gateway behind it as next host; the gateway saw who took the message, and whether it took the mark.
    let through_gateway = |host: &str, client: &str, ip: &str| {
        let one = log(host, client, Some("127.0.0.1")).replace("[192.0.2.9]:25", &format!("[{ip}]:10026"));
        let line = one.lines().find(|l| l.contains("to=<u@c.test>")).unwrap();
        let v = line.replace("u@c.test", "v@d.test").replace("9Zzz09", "9Zzz10");
        let index = index_of(&one.replace(line, &format!("{line}\n{v}")).replace("nrcpt=1", "nrcpt=2"));
        bind(&index, "4Abc01", ID, SECRET, None);
        index
    };
    let (ia, ib, ic) = (through_gateway("mx.a.test", "sender.test", "127.0.0.1"), through_gateway("mx.b.test", "mx.a.test", "::1"), c());
    let sc = serve_at(&ic, config(""), "127.0.0.3:0", clock);
    let sb = serve_at(&ib, config(""), "127.0.0.2:0", clock);
    let sa = serve(&ia, config(""));
    assert_eq!(told(&track(sa.plain)), ["mx.a.test relayed 2.1.9", "mx.a.test relayed 2.1.9"], "nothing is known of next hosts");
    noted(&sa, "mx.a.test", "u@c.test", "mx.b.test", true);
    noted(&sa, "mx.a.test", "v@d.test", "mx.d.test", false);
    noted(&sb, "mx.b.test", "u@c.test", "mx.c.test", true);
    let said = track(sa.plain);
    // In whichever order: both were handed over in one second.
    let mut actions = told(&said);
    actions.sort();
    assert_eq!(actions, ["mx.a.test relayed 2.1.9", "mx.a.test transferred 2.0.0"]);
    assert!(said.contains("Remote-MTA: dns; mx.b.test") && said.contains("Remote-MTA: dns; mx.d.test"), "{said}");
    let memory = ia.dir.path().join("memory").display().to_string();
    let names = [("a", sa.plain), ("mx.b.test", sb.plain), ("mx.c.test", sc.plain)].map(|(n, a)| format!("{n}={a}"));
    let url = format!("mtqp://a/track/{ID}/{SECRET}");
    let mut args = vec!["track", &url, "--json", "--memory", &memory];
    names.iter().for_each(|n| args.extend(["--resolve", n]));
    let out = msgtrk(ia.dir.path(), &args);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let seen: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut ends: Vec<_> = seen["recipients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| format!("{} {} at {}", r["original_recipient"], r["action"], r["at"]))
        .collect();
    ends.sort();
    let (delivered, relayed) = (r#""u@c.test" "delivered" at "mx.c.test""#, r#""v@d.test" "relayed" at "mx.a.test""#);
    assert!(ends.iter().any(|e| e == delivered) && ends.iter().any(|e| e == relayed), "{ends:?}");
    // mx.d.test took no mark: nobody was sent there, and nothing was said of it.
    assert!(!String::from_utf8_lossy(&out.stderr).contains("mx.d.test"));
}

/// A fake next server: what it does with each connection.
fn fake(behave: impl Fn(std::net::TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().take(3).for_each(behave));
    address
}

fn asked_within(index: &Index, b: SocketAddr, most: Duration) -> Vec<String> {
    let server = serve(index, asks(&[("mx.b.test", b)], "timeout_seconds = 2"));
    let began = Instant::now();
    let told = told(&track(server.plain));
    assert!(began.elapsed() < most, "{:?}", began.elapsed());
    told
}

const ALONE: [&str; 1] = ["mx.a.test relayed 2.1.9"];

#[test]
fn b_is_dead_or_slow() {
    let index = a();
    let dead = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    assert_eq!(asked_within(&index, dead, Duration::from_secs(2)), ALONE);
    // It answers after three minutes; the bound is two seconds here and two minutes at most by config.
    let slow = fake(|_s| std::thread::sleep(Duration::from_secs(180)));
    assert_eq!(asked_within(&index, slow, Duration::from_secs(8)), ALONE);
    let drips = fake(|mut s| {
        while s.write_all(b"+").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    assert_eq!(asked_within(&index, drips, Duration::from_secs(8)), ALONE);
}

fn after_track(s: &mut std::net::TcpStream, answer: &[u8]) {
    let _ = s.write_all(b"+OK/MTQP ready\r\n");
    let _ = s.read(&mut [0u8; 4096]);
    let _ = s.write_all(answer);
}

fn answer_of(id: &str, action: &str, status: &str) -> Vec<u8> {
    format!(
        "+OK+ here\r\nContent-Type: multipart/related; boundary=b; type=tracking-status\r\n\r\n--b\r\nContent-Type: message/tracking-status\r\n\r\n\
         Original-Envelope-Id: {id}\r\nReporting-MTA: dns; mx.b.test\r\nArrival-Date: Mon, 1 Jan 2001 15:15:15 -0500\r\nX-Evil: yes\r\n\r\n\
         Original-Recipient: rfc822; u@c.test\r\nFinal-Recipient: rfc822; u@c.test\r\nAction: {action}\r\nStatus: {status}\r\n\r\n--b--\r\n.\r\n"
    )
    .into_bytes()
}

#[test]
fn b_lies() {
    let index = a();
    let most = Duration::from_secs(8);
    let other = fake(|mut s| after_track(&mut s, &answer_of("other@sender.test", "delivered", "2.0.0")));
    assert_eq!(asked_within(&index, other, most), ALONE, "another message");
    let nothing = fake(|mut s| after_track(&mut s, b"-ERR/noinfo\r\n"));
    assert_eq!(asked_within(&index, nothing, most), ALONE);
    let opaque = fake(|mut s| after_track(&mut s, &answer_of(ID, "opaque", "2.0.0")));
    assert_eq!(asked_within(&index, opaque, most), ALONE);
    let wrong = fake(|mut s| after_track(&mut s, &answer_of(ID, "delivered", "2.1.9")));
    assert_eq!(asked_within(&index, wrong, most), ALONE, "what no server may say is not passed on");
    let http = fake(|mut s| drop(s.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")));
    assert_eq!(asked_within(&index, http, most), ALONE);
    let endless = fake(|mut s| {
        after_track(&mut s, b"+OK+ here\r\n");
        let block = b"x: 0123456789\r\n".repeat(4_000);
        let mut sent = 0usize;
        while sent < 1 << 30 && s.write_all(&block).is_ok() {
            sent += block.len();
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken");
    });
    assert_eq!(asked_within(&index, endless, most), ALONE, "a gigabyte");
    let honest = fake(|mut s| after_track(&mut s, &answer_of(ID, "delivered", "2.0.0")));
    let server = serve(&index, asks(&[("mx.b.test", honest)], ""));
    let said = track(server.plain);
    assert_eq!(told(&said), ["mx.a.test transferred 2.4.0", "mx.b.test delivered 2.0.0"]);
    assert!(!said.contains("X-Evil"));
}

#[test]
fn a_and_b_ask_each_other_and_it_ends() {
    let ia = a();
    let ib = hop("mx.b.test", "mx.a.test", Some("mx.a.test"));
    // Ports are known only once both listen: take two that are free just now.
    let free = |ip: &str| TcpListener::bind(format!("{ip}:0")).unwrap().local_addr().unwrap();
    let (at_a, at_b) = (free("127.0.0.1"), free("127.0.0.2"));
    let sa = serve_at(&ia, asks(&[("mx.b.test", at_b)], "timeout_seconds = 20"), &at_a.to_string(), clock);
    let _sb = serve_at(&ib, asks(&[("mx.a.test", at_a)], "timeout_seconds = 20"), &at_b.to_string(), clock);
    let began = Instant::now();
    let told = told(&track(sa.plain));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(told[..2], ["mx.a.test transferred 2.4.0", "mx.b.test transferred 2.4.0"]);
    assert!(told.len() <= 3, "{told:?}");
}

#[test]
fn rfc3887_11_the_next_hop_gets_the_same_security_or_is_not_asked() {
    let (ia, ib) = (a(), b());
    let cert = |i: &Index, name: &str| certificate(i.dir.path(), name, &[name]);
    let plain_b = serve_at(&ib, config(""), "127.0.0.2:0", clock);
    let mut with_tls = config("");
    with_tls.certificates = vec![cert(&ib, "mx.b.test")];
    let ca = with_tls.certificates[0].chain.clone();
    let tls_b = serve_at(&ib, with_tls, "127.0.0.2:0", clock);
    let ask = |b: SocketAddr, trusted: bool| {
        let mut c = asks(&[("mx.b.test", b)], "");
        c.certificates = vec![cert(&ia, "mx.a.test")];
        c.chain.ca_file = trusted.then(|| ca.clone());
        let server = serve(&ia, c);
        let url = format!("mtqp://mx.a.test/track/{ID}/{SECRET}");
        let (name, memory) = (format!("mx.a.test={}", server.plain), ia.dir.path().join("m").display().to_string());
        let out = msgtrk(ia.dir.path(), &["track", &url, "--json", "--resolve", &name, "--no-referrals", "--memory", &memory]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let v: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        (v["records"].as_array().unwrap().len(), told(&track(server.plain)).len())
    };
    // The client comes over TLS, then in the clear.
    assert_eq!(ask(plain_b.plain, true), (1, 2), "B has no TLS");
    assert_eq!(ask(tls_b.plain, false), (1, 2), "B's certificate does not hold");
    assert_eq!(ask(tls_b.plain, true), (2, 2));
}
