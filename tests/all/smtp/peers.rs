//! MTAs whose packages conflict with Postfix's: unpacked beside it (`tests/peers.sh DIR`, `MSGTRK_TEST_PEERS=DIR`), each in a mount
//! and process namespace of its own, with this machine's files below its own, and on loopback.

use super::daemon::{Client, Daemon, certifier, scripted};
use super::exim::Exim;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// In the namespace: the unpacked files over this machine's, all in memory, then the MTA itself.
const ENTER: &str = r#"set -e
mount --make-rprivate /
cd "$1"; mkdir w; mount -t tmpfs tmpfs w; mkdir w/upper w/work w/root
cp -a "$2/." w/upper/
for d in bin sbin lib; do if [ -d w/upper/$d ]; then mkdir -p w/upper/usr/$d; cp -a w/upper/$d/. w/upper/usr/$d/; rm -r w/upper/$d; fi; done
mount -t overlay overlay -o lowerdir=/,upperdir=w/upper,workdir=w/work w/root
for n in null:3 zero:5 random:8 urandom:9; do mknod -m 666 dev/${n%:*} c 1 ${n#*:}; done
mount --bind dev w/root/dev; mount -t proc proc w/root/proc
exec chroot w/root /bin/sh -c "$3"
"#;

/// Users, and this machine's name: Sendmail waits a minute for one.
const USERS: &str = r#"set -e
echo "127.0.0.1 localhost @HOST.test $(uname -n).test $(uname -n)" >/etc/hosts
for u in smmta:904 smmsp:905 opensmtpd:906 opensmtpq:907 bob:2000 carl:2001 dan:2002; do
  echo "${u%:*}:x:${u#*:}:${u#*:}::/home/${u%:*}:/bin/sh" >>/etc/passwd; echo "${u%:*}:x:${u#*:}:" >>/etc/group; mkdir -p /home/${u%:*}
  chown ${u#*:} /home/${u%:*}
done
"#;

const SENDMAIL: &str = r#"
mkdir -p /etc/mail /run/sendmail/mta /var/spool/mqueue; cd /etc/mail
echo 'team: carl,dan' >aliases
cat >s.mc <<'X'
include(`/usr/share/sendmail/cf/m4/cf.m4')dnl
OSTYPE(`debian')dnl
DOMAIN(`debian-mta')dnl
undefine(`confHOST_STATUS_DIRECTORY')dnl
define(`confDOMAIN_NAME', `@HOST.test')dnl
define(`confTO_IDENT', `0')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confLOG_LEVEL', `11')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h @RELAY')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`promiscuous_relay')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA, Port=@PORT, Addr=127.0.0.1')dnl
define(`LOCAL_MAILER_PATH', `/bin/sh')dnl
define(`LOCAL_MAILER_ARGS', `sh -c cat>/dev/null $u')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
LOCAL_CONFIG
Cw@HOST.test
X
m4 s.mc >sendmail.cf 2>/dev/null
for d in / /etc /etc/mail /var /var/spool /var/spool/mqueue; do chown root:root $d; chmod go-w $d; done
/usr/libexec/sendmail/sendmail -C /etc/mail/sendmail.cf -bi
exec /usr/libexec/sendmail/sendmail -C /etc/mail/sendmail.cf -L sm-mta -bD -q2s
"#;

const OPENSMTPD: &str = r#"
mkdir -p /var/lib/opensmtpd/empty /run/smtpd /var/spool/smtpd; chmod 711 /var/spool/smtpd
cat >/etc/smtpd.conf <<'X'
table aliases { team = "carl,dan" }
listen on 127.0.0.1 port @PORT hostname @HOST.test
action "local" mda "cat >/dev/null" alias <aliases>
action "out" relay host "smtp://127.0.0.1:@RELAY"
match from any for domain "@HOST.test" action "local"
match from any for any action "out"
X
exec /usr/sbin/smtpd -F
"#;

/// A daemon in a namespace, and its syslog.
struct Peer {
    child: Child,
    smtp: SocketAddr,
    over: Arc<AtomicBool>,
    dir: tempfile::TempDir,
}

impl Peer {
    /// Starts one, or says why not. All mail that is not for `HOST.test` goes to `relay`.
    fn start(name: &str, script: &str, host: &str, relay: SocketAddr) -> Option<Self> {
        let files = std::env::var_os("MSGTRK_TEST_PEERS").map(|d| PathBuf::from(d).join(name)).filter(|d| d.is_dir());
        let Some(files) = files.filter(|_| rustix::process::geteuid().is_root()) else {
            eprintln!("skipped: {name} is where MSGTRK_TEST_PEERS says (tests/peers.sh), and is started by root only");
            return None;
        };
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let probe = "cd $1; mkdir w; mount -t tmpfs t w; mkdir w/u w/w w/r; mount -t overlay o -o lowerdir=/,upperdir=w/u,workdir=w/w w/r";
        let out = Command::new("unshare").args(["--mount", "--pid", "--fork", "sh", "-ec", probe, "sh"]).arg(dir.path()).output();
        if !out.as_ref().is_ok_and(|o| o.status.success()) {
            eprintln!("skipped: no namespace of its own for {name} here: {out:?}");
            return None;
        }
        std::fs::remove_dir(dir.path().join("w")).unwrap();
        let smtp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        std::fs::create_dir(dir.path().join("dev")).unwrap();
        let over = Arc::new(AtomicBool::new(false));
        log(dir.path(), host, Arc::clone(&over));
        let (port, next) = (smtp.port().to_string(), relay.port().to_string());
        let script = format!("{USERS}{script}").replace("@HOST", host).replace("@PORT", &port).replace("@RELAY", &next);
        let out = std::fs::File::create(dir.path().join("out")).unwrap();
        let child = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "sh", "-c", ENTER, "sh"])
            .args([dir.path(), &files])
            .arg(script)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let peer = Peer { child, smtp, over, dir };
        let until = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(smtp).is_err() {
            let why = || std::fs::read_to_string(peer.dir.path().join("out")).unwrap() + &std::fs::read_to_string(peer.log()).unwrap();
            assert!(Instant::now() < until, "{name} does not start: {}", why());
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(peer)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("mail.log")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The first process of the namespace: with it goes all that it started.
        let first = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap_or_default();
        for pid in first.split_whitespace() {
            let _ = Command::new("kill").args(["-9", pid]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.over.store(true, Relaxed);
    }
}

/// Writes what comes to `dev/log` as syslogd does: without the priority, and with the host behind the stamp.
fn log(dir: &Path, host: &str, over: Arc<AtomicBool>) {
    let socket = UnixDatagram::bind(dir.join("dev/log")).unwrap();
    Command::new("chmod").arg("666").arg(dir.join("dev/log")).status().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut file = std::fs::File::create(dir.join("mail.log")).unwrap();
    let host = host.to_string();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while !over.load(Relaxed) {
            let Ok(n) = socket.recv(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
            let text = text.split_once('>').map_or(text.as_str(), |(_, t)| t);
            let (stamp, rest) = text.split_at(15);
            writeln!(file, "{stamp} {host}{}", rest.trim_end()).unwrap();
        }
    });
}

/// A message through the gateway before a real MTA: what `msgtrk track` answers with the secret, from taking it on to each end.
fn every_state(mta: &str, host: &str, smtp: SocketAddr, log: &Path, expanded: &str) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.toml");
    let text = format!(
        "[[watch]]\npath = \"{}\"\nhost = \"{host}\"\n[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{smtp}\"\nhost = \"{host}\"\nmta = \"{mta}\"\n",
        log.display()
    );
    std::fs::write(&config, text).unwrap();
    let args = ["--config", config.to_str().unwrap(), "--mtqp", "127.0.0.1:0"];
    let daemon = Daemon::start(&dir.path().join("index"), &args);
    let mut c = Client::connect(daemon.address("smtp", 0));
    assert!(c.reply().starts_with("220"));
    assert!(c.ask("EHLO c.test").contains("MTRK"), "{mta}");
    let secret = format!("the secret of {mta}");
    let said = c.ask(&format!("MAIL FROM:<ann@a.test> MTRK={}:86400 ENVID={mta}@h.test", certifier(secret.as_bytes())));
    assert!(said.starts_with("250"), "{said}");
    let to = [
        format!("bob@{host}.test"),
        format!("team@{host}.test"),
        "w@relay.test".into(),
        "refused@relay.test".into(),
        "later@relay.test".into(),
    ];
    for r in &to {
        let orcpt = if r.starts_with("w@") { "w+2Bown@first.test" } else { r };
        let said = c.ask(&format!("RCPT TO:<{r}> ORCPT=rfc822;{orcpt} NOTIFY=NEVER"));
        assert!(said.starts_with("250"), "{said}");
    }
    assert!(c.ask("DATA").starts_with("354"));
    let said = c.ask(&format!("Subject: x\r\nMessage-Id: <{mta}@a.test>\r\n\r\nx\r\n."));
    assert!(said.starts_with("250"), "{said}");
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::STANDARD.encode(&secret);
    let (server, memory, envid) = (daemon.address("mtqp", 0).to_string(), dir.path().join("memory"), format!("{mta}@h.test"));
    let track = || {
        let memory = memory.to_str().unwrap();
        let args =
            ["track", "--server", &server, "--envelope-id", &envid, "--secret", &secret, "--json", "--no-referrals", "--memory", memory];
        let out = crate::support::msgtrk(&daemon.index, &args);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let found: serde_json::Value = serde_json::from_str(text.lines().next().unwrap_or_default()).unwrap_or_default();
        let all = found["recipients"].as_array().cloned().unwrap_or_default();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
        let mut states: Vec<String> = all.iter().map(|r| format!("{} {}", text(&r["original_recipient"]), text(&r["action"]))).collect();
        states.sort();
        states.dedup();
        states
    };
    let mut want = vec![
        format!("bob@{host}.test delivered"),
        "later@relay.test delayed".into(),
        "refused@relay.test failed".into(),
        // As the sender itself called it.
        "w+own@first.test relayed".into(),
    ];
    want.push(expanded.replace("HOST", host));
    want.sort();
    // Taken is tracked, at once.
    let first = track();
    let named = |who: &str| first.iter().any(|f| f.starts_with(&format!("{who} ")));
    assert!(first.len() == 5 && named(&to[0]) && named(&to[4]) && named("w+own@first.test"), "{mta}: {first:?}");
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let states = track();
        if states == want {
            break;
        }
        let log = || std::fs::read_to_string(log).unwrap_or_default();
        assert!(Instant::now() < until, "{mta}: {states:#?}, not {want:#?}\n{}", log());
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn every_state_behind_a_real_sendmail() {
    let (relay, _) = scripted(&["DSN"], "R1");
    let Some(peer) = Peer::start("sendmail", SENDMAIL, "sm1", relay) else { return };
    every_state("sendmail", "sm1", peer.smtp, &peer.log(), "team@HOST.test expanded");
}

#[test]
fn every_state_behind_a_real_opensmtpd() {
    let (relay, _) = scripted(&["DSN"], "R1");
    let Some(peer) = Peer::start("opensmtpd", OPENSMTPD, "os1", relay) else { return };
    every_state("opensmtpd", "os1", peer.smtp, &peer.log(), "team@HOST.test delivered");
}

#[test]
fn every_state_behind_a_real_exim() {
    let (relay, _) = scripted(&["DSN"], "R1");
    let Some(exim) = Exim::start(Some(relay)) else { return };
    every_state("exim", "ex1", exim.smtp, &exim.log(), "team@HOST.test expanded");
}
