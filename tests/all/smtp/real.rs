//! With a real MTA, where one is installed.

use super::daemon::{Client, Daemon, certifier, scripted, until};
use super::exim::Exim;
use super::postfix::Postfix;
use crate::mtqp_support::{config, serve_at};
use crate::support::Index;
use std::net::SocketAddr;

/// Its own log names Postfix's host by the first part of `myhostname`.
fn gateway(postfix: &Postfix, dir: &std::path::Path, more: &str) -> Daemon {
    let config = dir.join("c.toml");
    let text = format!("[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{}\"\nhost = \"mx1\"\n{more}", postfix.smtp);
    std::fs::write(&config, text).unwrap();
    Daemon::start(&dir.join("index"), &["--config", config.to_str().unwrap(), "--watch", postfix.log().to_str().unwrap()])
}

fn actions(found: &serde_json::Value) -> Vec<(String, String)> {
    let recipients = found["recipients"].as_array().cloned().unwrap_or_default();
    recipients.iter().map(|r| (r["original_recipient"].as_str().unwrap().into(), r["action"].as_str().unwrap().into())).collect()
}

#[test]
fn a_marked_message_is_followed_through_a_real_postfix() {
    let (relay, _) = scripted(&["DSN"], "R1");
    let Some(postfix) = Postfix::start("", Some(relay)) else { return };
    let dir = tempfile::tempdir().unwrap();
    let daemon = gateway(&postfix, dir.path(), "client = \"none\"\n");
    let mut c = Client::connect(daemon.address("smtp", 0));
    assert!(c.reply().starts_with("220 mx1.test"));
    assert!(c.ask("EHLO c.test").contains("250 MTRK"));
    let to = ["bob@local.test", "team@local.test", "refused@relay.test", "w@relay.test", "y@slow.test", "z@gone.test"];
    assert!(c.ask(&format!("MAIL FROM:<ann@a.test> MTRK={}:86400 ENVID=real1@h.test", certifier(b"s"))).starts_with("250"));
    for r in to {
        let said = c.ask(&format!("RCPT TO:<{r}> ORCPT=rfc822;{r} NOTIFY=NEVER"));
        assert!(said.starts_with("250"), "{said}");
    }
    c.ask("DATA");
    let said = c.ask("Subject: x\r\nMessage-Id: <real1@a.test>\r\n\r\nx\r\n.");
    assert!(said.starts_with("250 2.0.0 Ok: queued as "), "{said}");
    let found = daemon.trace("real1@h.test");
    assert_eq!(found["records"].as_array().map(Vec::len), Some(1), "{found:#}");
    postfix.settle();
    let of = |v: &serde_json::Value, who: &str| actions(v).iter().filter(|a| a.0 == who).map(|a| a.1.clone()).collect::<Vec<_>>();
    let found = daemon.trace_until(Some(&postfix.log()), "real1@h.test", |v| {
        ["bob@local.test", "refused@relay.test", "w@relay.test", "z@gone.test"].iter().all(|r| of(v, r).iter().all(|a| a != "delayed"))
            && of(v, "y@slow.test").len() == 1
    });
    assert_eq!(found["records"][0]["message_id"], "real1@a.test", "{found:#}");
    assert_eq!(of(&found, "bob@local.test"), ["delivered"]);
    assert_eq!((of(&found, "refused@relay.test"), of(&found, "w@relay.test")), (vec!["failed".into()], vec!["relayed".into()]));
    assert_eq!(of(&found, "z@gone.test"), ["opaque"]);
    assert_eq!(of(&found, "y@slow.test"), ["delayed"]);
    assert!(of(&found, "team@local.test").iter().all(|a| a == "delivered" || a == "expanded"), "{found:#}");
    let log = postfix.log_text();
    assert!(!log.contains("MTRK") && log.contains("to=<y@slow.test>"));
    // One record, its bindings within it: the short id's incarnation is the right one.
    assert_eq!(found["records"].as_array().map(Vec::len), Some(1), "{found:#}");
    assert!(found.to_string().contains("smtp gateway: marked"));
}

#[test]
fn postfix_is_told_who_the_client_is() {
    for (client, main) in [
        ("proxy-v1", "smtpd_upstream_proxy_protocol = haproxy"),
        ("proxy-v2", "smtpd_upstream_proxy_protocol = haproxy"),
        ("xclient", "smtpd_authorized_xclient_hosts = 127.0.0.0/8"),
    ] {
        let Some(postfix) = Postfix::start(main, None) else { return };
        let dir = tempfile::tempdir().unwrap();
        let daemon = gateway(&postfix, dir.path(), &format!("client = \"{client}\"\n"));
        // Another address than the gateway's own towards Postfix.
        let socket = std::net::TcpStream::connect(daemon.address("smtp", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        drop(socket);
        let mut c = Client::connect(daemon.address("smtp", 0));
        let own = c.stream.local_addr().unwrap().port();
        assert_ne!(own, port);
        assert!(c.reply().starts_with("220"), "{client}");
        c.ask("EHLO c.test");
        c.ask("MAIL FROM:<a@a.test>");
        c.ask("RCPT TO:<bob@local.test>");
        c.ask("DATA");
        assert!(c.ask("x\r\n.").starts_with("250"), "{client}");
        assert!(postfix.log_text().contains("127.0.0.1]"), "{client}");
    }
}

/// The second of two sites: its MTA, the name it greets with, and a mailbox.
struct Second<'a> {
    smtp: SocketAddr,
    log: &'a std::path::Path,
    host: &'a str,
    mta: &'a str,
    bob: &'a str,
}

#[test]
fn a_message_is_tracked_over_two_sites_from_the_first_ones_server() {
    let Some(b) = Postfix::start("myhostname = mx2.test\nvirtual_mailbox_domains = b.test", None) else { return };
    two_sites(&Second { smtp: b.smtp, log: &b.log(), host: "mx2", mta: "postfix", bob: "bob@b.test" });
}

#[test]
fn a_message_is_tracked_over_two_sites_the_second_of_which_has_exim() {
    let Some(b) = Exim::start(None) else { return };
    two_sites(&Second { smtp: b.smtp, log: &b.log(), host: "ex1", mta: "exim", bob: "bob@ex1.test" });
}

/// Two sites: A (gateway in, Postfix, gateway out) to B (gateway in, its MTA), each with its own index and tracking server.
fn two_sites(b: &Second) {
    let out = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Some(a) = Postfix::start(&format!("relayhost = [127.0.0.1]:{}", out.port()), None) else { return };
    let (at_a, at_b) = (Index::new(), Index::new());
    let serve = |index: &Index, backend: SocketAddr, log: &std::path::Path, host: &str, more: &str| {
        let config = index.dir.path().join("c.toml");
        let listen = format!("[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{backend}\"\nhost = \"{host}\"\n{more}");
        std::fs::write(&config, format!("[[watch]]\npath = \"{}\"\nhost = \"{host}\"\n{listen}", log.display())).unwrap();
        Daemon::start(&index.dir.path().join("index"), &["--config", config.to_str().unwrap()])
    };
    let site_b = serve(&at_b, b.smtp, b.log, b.host, &format!("mta = \"{}\"\n", b.mta));
    let routes = format!("[smtp.out]\nlisten = \"{out}\"\n[smtp.out.routes]\n\"*\" = \"{}\"\n", site_b.address("smtp", 0));
    let site_a = serve(&at_a, a.smtp, &a.log(), "mx1", &routes);
    let mut c = Client::connect(site_a.address("smtp", 0));
    c.reply();
    c.ask("EHLO c.test");
    let secret = b"two sites and one secret";
    assert!(c.ask(&format!("MAIL FROM:<ann@a.test> MTRK={}:5000 ENVID=two@h.test", certifier(secret))).starts_with("250"));
    for r in [b.bob, "eve@local.test"] {
        assert!(c.ask(&format!("RCPT TO:<{r}> ORCPT=rfc822;{r}")).starts_with("250"));
    }
    c.ask("DATA");
    assert!(c.ask("Subject: x\r\nMessage-Id: <two@a.test>\r\n\r\nx\r\n.").contains("queued as"));
    let done = |who: &str, what: &str| {
        let (who, what) = (who.to_string(), what.to_string());
        move |v: &serde_json::Value| actions(v).contains(&(who.clone(), what.clone()))
    };
    let found = site_b.trace_until(None, "two@h.test", done(b.bob, "delivered"));
    assert!(done(b.bob, "delivered")(&found), "{found:#}");
    let found = site_a.trace_until(None, "two@h.test", done(b.bob, "relayed"));
    assert!(found.to_string().contains(&format!("to {}.test, which tracks: yes", b.host)), "{found:#}");
    // The time that is left went along.
    let expires = |v: &serde_json::Value| {
        let text = v.to_string();
        let (_, rest) = text.split_once(" expires ").unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse::<i64>().unwrap()
    };
    let (first, second) = (expires(&found), expires(&site_b.trace("two@h.test")));
    assert!((0..30).contains(&(second - first).abs()), "{first} {second}");
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    // These servers show the index as it is when they begin; the daemons answered from memory, too.
    let ended = |index: &Index, at: &str| {
        let all = |journeys: &Vec<msgtrk::model::journey::Journey>| {
            let mut recipients = journeys.iter().flat_map(|j| &j.records).filter(|r| r.reporting_mta == at).flat_map(|r| &r.recipients);
            recipients.clone().next().is_some() && recipients.all(|p| p.action != msgtrk::model::event::Action::Delayed)
        };
        assert!(all(&until(|| index.trace("two@h.test"), all)), "{at}");
    };
    ended(&at_a, "mx1");
    ended(&at_b, b.host);
    let server_b = serve_at(&at_b, config(""), "127.0.0.1:0", clock);
    let text = format!("[chain]\nask = [\"*\"]\n[resolve]\n\"{}.test\" = \"{}\"\n", b.host, server_b.plain);
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::STANDARD.encode(secret);
    let ask = |server: SocketAddr, more: &[&str]| {
        let (server, memory) = (server.to_string(), at_a.dir.path().join("memory"));
        let args = [
            "track",
            "--server",
            &server,
            "--envelope-id",
            "two@h.test",
            "--secret",
            &secret,
            "--json",
            "--memory",
            memory.to_str().unwrap(),
        ];
        let out = crate::support::msgtrk(&at_a.dir.path().join("index"), &[&args, more].concat());
        String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
    };
    // By chaining: A's server asks B's.
    let server_a = serve_at(&at_a, config(&text), "127.0.0.1:0", clock);
    let ends = |text: &String| -> serde_json::Value { text.lines().next().and_then(|l| serde_json::from_str(l).ok()).unwrap_or_default() };
    let chained = until(
        || ask(server_a.plain, &["--no-referrals"]),
        |t| done(b.bob, "delivered")(&ends(t)) && done("eve@local.test", "delivered")(&ends(t)),
    );
    let ends: serde_json::Value = ends(&chained);
    assert!(done(b.bob, "delivered")(&ends) && done("eve@local.test", "delivered")(&ends), "{chained}");
    // By referral: A's server names B, and the client asks there itself.
    let alone = serve_at(&at_a, config(""), "127.0.0.1:0", clock);
    let only = ask(alone.plain, &["--no-referrals"]);
    assert!(
        only.contains("\"transferred\"") && !done(b.bob, "delivered")(&serde_json::from_str(only.lines().next().unwrap()).unwrap()),
        "{only}"
    );
    let referred = ask(alone.plain, &["--resolve", &format!("{}.test={}", b.host, server_b.plain)]);
    let ends: serde_json::Value = serde_json::from_str(referred.lines().next().unwrap()).unwrap_or_default();
    assert!(done(b.bob, "delivered")(&ends), "{referred}");
}

/// A small generator: the same sessions in every run.
struct Dice(u64);

impl Dice {
    fn of(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// A session: what is sent, and how many replies are waited for.
type Script = Vec<(Vec<u8>, usize)>;

fn script(n: usize, d: &mut Dice) -> Script {
    let mut s: Script = vec![(b"EHLO c.test\r\n".to_vec(), 1)];
    let line = |text: &str| (format!("{text}\r\n").into_bytes(), 1);
    const ODD: &[&str] = &[
        "NOOP",
        "noop",
        "HELP",
        "VRFY bob@local.test",
        "EXPN x",
        "RSET",
        "foo bar",
        "",
        "MAIL FROM:<a@a.test> SIZE=1x",
        "MAIL FROM:<a@a.test> RET=FULL ENVID=a+2",
        "MAIL FROM:<a@a.test",
        "MAIL TO:<a@a.test>",
        "RCPT TO:<bob@local.test> NOTIFY=MAYBE",
        "RCPT TO:<bob@local.test>",
        "DATA",
        "MAIL FROM:<>",
        "HELO c.test",
        "MAIL FROM:<a@a.test> BODY=7BIT",
        "RCPT TO:<no@where.test>",
        "ETRN x",
        "AUTH PLAIN",
        "MAIL FROM:<a@a.test> AUTH=<>",
        "RCPT TO:<\"b b\"@local.test>",
        "MAIL  FROM: <a@a.test>",
        "rcpt to: bob@local.test",
        "EHLO again.test",
        "MAIL FROM:<a@a.test> SMTPUTF8",
    ];
    for _ in 0..d.of(6) {
        s.push(line(ODD[d.of(ODD.len())]));
        // DATA that was taken wants its content.
        if s.last().unwrap().0 == b"DATA\r\n" {
            s.pop();
        }
    }
    // BDAT is taken behind EHLO only: so after a HELO the two ways would differ.
    s.push(line("EHLO c.test"));
    for k in 0..1 + d.of(2) {
        let id = format!("Subject: {n}/{k}\r\nMessage-Id: <{n}.{k}@a.test>\r\n\r\n");
        const BODIES: &[&str] = &[
            "plain\r\n",
            "..stuffed\r\n..\r\n",
            "",
            "bare\nlf\r\n",
            "long LONG\r\n",
            "\r\n\r\n\r\n",
            "8bit \u{e9}\u{4e16}\r\n",
            " lead\r\n\ttab\r\n",
            "cr\rinside\r\n",
            ".. \r\n...\r\n",
            "nul \0 in\r\n",
        ];
        let body = BODIES[d.of(BODIES.len())].replace("LONG", &"x".repeat(d.of(3_000))).repeat(1 + d.of(40));
        s.push(line("MAIL FROM:<ann@a.test>"));
        s.push(line("RCPT TO:<bob@local.test>"));
        match d.of(3) {
            0 => {
                let content = format!("{id}{}", body);
                s.push((format!("BDAT {}\r\n{content}", content.len()).into_bytes(), 1));
                s.push((b"BDAT 0 LAST\r\n".to_vec(), 1));
            }
            1 => {
                s.push(line("DATA"));
                s.push((format!("{id}{body}.\r\n").into_bytes(), 1));
            }
            _ => {
                // Pipelined, with the content's end and the next command in one.
                s.push((b"NOOP\r\nDATA\r\n".to_vec(), 2));
                s.push((format!("{id}{body}.\r\nNOOP\r\n").into_bytes(), 2));
            }
        }
    }
    match d.of(10) {
        // Gone in the middle of a message: it must not be taken.
        0 => {
            s.push(line("MAIL FROM:<ann@a.test>"));
            s.push(line("RCPT TO:<bob@local.test>"));
            s.push(line("DATA"));
            s.push((b"Subject: half\r\n\r\nhalf\r\n".to_vec(), 0));
        }
        _ => s.push(line("QUIT")),
    }
    s
}

fn play(to: SocketAddr, script: &Script) -> Vec<String> {
    let mut c = Client::connect(to);
    let mut heard = vec![c.reply()];
    for (bytes, replies) in script {
        c.send(bytes);
        for _ in 0..*replies {
            heard.push(c.reply());
        }
    }
    heard
}

/// A reply without what differs from one time to the next.
fn plain(reply: &str) -> String {
    let reply = reply.replace("250-CHUNKING\r\n250 MTRK\r\n", "250 CHUNKING\r\n");
    match reply.split_once("queued as ") {
        Some((head, _)) => format!("{head}queued as ID"),
        None => reply,
    }
}

/// The same 500 sessions, good, odd and broken: the same replies but for MTRK, the same mail byte for byte.
#[test]
fn postfix_takes_the_same_through_the_gateway_as_without() {
    let Some(postfix) = Postfix::start("", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let daemon = gateway(&postfix, dir.path(), "");
    let mut dice = Dice(3885);
    let scripts: Vec<Script> = (0..500).map(|n| script(n, &mut dice)).collect();
    let run = |to: SocketAddr| -> Vec<Vec<String>> {
        std::thread::scope(|scope| {
            let parts: Vec<_> =
                scripts.chunks(125).map(|part| scope.spawn(move || part.iter().map(|s| play(to, s)).collect::<Vec<_>>())).collect();
            parts.into_iter().flat_map(|p| p.join().unwrap()).collect()
        })
    };
    let direct = run(postfix.smtp);
    let mail = postfix.mail();
    let through = run(daemon.address("smtp", 0));
    let (mut equal, mut taken) = (0, 0);
    for (n, (a, b)) in direct.iter().zip(&through).enumerate() {
        for (k, (x, y)) in a.iter().zip(b).enumerate() {
            let sent: Vec<String> = scripts[n].iter().map(|s| s.0[..s.0.len().min(60)].escape_ascii().to_string()).collect();
            assert_eq!(plain(x), plain(y), "session {n}, reply {k}: {sent:#?}");
            equal += 1;
            taken += usize::from(x.contains("queued as"));
        }
    }
    let mail_through = postfix.mail();
    assert_eq!((mail.len(), mail_through.len()), (taken, taken));
    let at = mail.iter().zip(&mail_through).position(|(a, b)| a != b);
    assert_eq!(at.map(|n| (String::from_utf8_lossy(&mail[n]).into_owned(), String::from_utf8_lossy(&mail_through[n]).into_owned())), None);
    eprintln!("500 sessions: {equal} replies the same, {taken} messages the same byte for byte");
    assert!(equal > 4_000 && taken > 500, "{equal} {taken}");
}

/// What swaks hears, without what differs from one time to the next.
fn swaks(to: SocketAddr, args: &[&str]) -> Option<Vec<String>> {
    let server = to.to_string();
    let fixed = [
        "--server",
        &server,
        "--from",
        "ann@a.test",
        "--to",
        "bob@local.test",
        "--helo",
        "c.test",
        "--header",
        "Date: x",
        "--timeout",
        "20",
    ];
    let program = std::env::split_paths(&std::env::var_os("PATH")?).map(|d| d.join("swaks")).find(|p| p.is_file())?;
    let out = crate::support::ended(std::process::Command::new(program).args(fixed).args(args));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let heard = text.lines().filter(|l| l.starts_with("<")).filter(|l| !l.ends_with("250 MTRK"));
    Some(heard.map(|l| plain(&l.replace("250-CHUNKING", "250 CHUNKING"))).collect())
}

#[test]
fn swaks_hears_no_difference() {
    let Some(postfix) = Postfix::start("", None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let daemon = gateway(&postfix, dir.path(), "");
    let ways: &[&[&str]] = &[
        &[],
        &["--pipeline"],
        &["--prdr"],
        &["--protocol", "SMTP"],
        &["--quit-after", "RCPT"],
        &["--drop-after-send", "DATA"],
        &["--to", "a@local.test,b@local.test,no-domain"],
        &["--body", "one line\n.\n..\nlast"],
        &["--attach-type", "text/plain", "--attach", "an attachment"],
        &["--auth", "PLAIN", "--auth-user", "u", "--auth-password", "p"],
        &["--xclient-addr", "192.0.2.1"],
    ];
    let mut compared = 0;
    for way in ways {
        let Some(direct) = swaks(postfix.smtp, way) else {
            eprintln!("skipped: swaks is not installed");
            return;
        };
        assert_eq!(swaks(daemon.address("smtp", 0), way).unwrap(), direct, "{way:?}");
        assert!(direct.len() > 1, "{way:?}: {direct:?}");
        compared += direct.len();
    }
    eprintln!("swaks: {} ways, {compared} lines the same", ways.len());
}
