//! With a real Exim: where it is installed, or where `MSGTRK_TEST_EXIM` says.

use super::daemon::{Client, Daemon, certifier};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub struct Exim {
    dir: tempfile::TempDir,
    pub smtp: SocketAddr,
    child: Child,
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("MSGTRK_TEST_EXIM").map(PathBuf::from);
    let usual = ["/usr/sbin/exim4", "/usr/sbin/exim"].into_iter().map(PathBuf::from);
    let found = named.into_iter().chain(usual).find(|p| p.is_file());
    if found.is_none() || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: Exim is not installed, or the tests are not run by root");
        return None;
    }
    found
}

impl Exim {
    /// Starts one, or says why not. Mail for other domains than ex1.test goes to `relay`, if there is one.
    pub fn start(relay: Option<SocketAddr>) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let smtp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let p = dir.path().display();
        let out = relay.map_or(
            "",
            |_| "out:\n  driver = manualroute\n  domains = ! ex1.test\n  transport = out\n  route_list = * 127.0.0.1\n  self = send\n",
        );
        let conf = format!(
            "exim_user = nobody\nexim_group = nogroup\nprimary_hostname = ex1.test\nspool_directory = {p}/spool\nlog_file_path = {p}/log/%slog\n\
             daemon_smtp_ports = {}\nlocal_interfaces = 127.0.0.1\ndsn_advertise_hosts = *\nexim_path = {}\nacl_smtp_rcpt = rcpt\nnever_users =\ndeliver_drop_privilege = true\n\
             begin acl\nrcpt:\n  deny domains = ex1.test\n       condition = ${{if eq{{$local_part}}{{refused}}}}\n  accept\nbegin routers\n{out}team:\n  driver = redirect\n  local_parts = team\n  data = one@ex1.test, two@ex1.test\nfail:\n  driver = redirect\n  local_parts = gone\n  \
             data = :fail: no such user\n  allow_fail\nall:\n  driver = accept\n  transport = file\nbegin transports\nfile:\n  driver = appendfile\n  \
             file = {p}/mail/all\nout:\n  driver = smtp\n  port = {}\n  allow_localhost\n  hosts_try_chunking =\nbegin retry\n* * F,1h,1m\n",
            smtp.port(),
            program.display(),
            relay.map_or(25, |r| r.port())
        );
        std::fs::write(dir.path().join("conf"), conf).unwrap();
        let shell = format!("cd {p} && mkdir spool log mail && chmod 755 . && chown nobody:nogroup spool log mail");
        assert!(Command::new("sh").args(["-c", &shell]).status().unwrap().success());
        let mut command = Command::new(program);
        command
            .arg("-C")
            .arg(dir.path().join("conf"))
            .args(["-bdf", "-q1m"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let exim = Exim { child: command.spawn().unwrap(), smtp, dir };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(smtp).is_err() {
            assert!(Instant::now() < until, "Exim does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(exim)
    }

    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log/mainlog")
    }
}

impl Drop for Exim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn backfill(daemon: &Daemon, log: &Path) {
    let out = crate::support::msgtrk(&daemon.index, &["backfill", "--quiet", "--host", "ex1", log.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn a_marked_message_is_followed_through_a_real_exim_by_data_and_by_bdat() {
    let Some(exim) = Exim::start(None) else { return };
    let dir = tempfile::tempdir().unwrap();
    let (config, quiet) = (dir.path().join("c.toml"), dir.path().join("empty.log"));
    std::fs::write(&quiet, "").unwrap();
    let text = format!("[[smtp.listen]]\nlisten = \"127.0.0.1:0\"\nbackend = \"{}\"\nhost = \"ex1\"\nmta = \"exim\"\n", exim.smtp);
    std::fs::write(&config, text).unwrap();
    let daemon = Daemon::start(&dir.path().join("index"), &["--config", config.to_str().unwrap(), "--watch", quiet.to_str().unwrap()]);
    let mut c = Client::connect(daemon.address("smtp", 0));
    assert!(c.reply().starts_with("220 ex1.test"));
    assert!(c.ask("EHLO c.test").contains("MTRK"));
    for (n, how) in ["DATA", "BDAT"].iter().enumerate() {
        let envid = format!("ex{n}@h.test");
        assert!(c.ask(&format!("MAIL FROM:<ann@a.test> MTRK={} ENVID={envid}", certifier(b"s"))).starts_with("250"));
        assert!(c.ask("RCPT TO:<refused@ex1.test>").starts_with("550"));
        for r in ["bob@ex1.test", "gone@ex1.test"] {
            let said = c.ask(&format!("RCPT TO:<{r}> ORCPT=rfc822;{r} NOTIFY=NEVER"));
            assert!(said.starts_with("250"), "{said}");
        }
        let content = format!("Subject: {how}\r\nMessage-Id: <{envid}>\r\n\r\nx\r\n");
        let said = match *how {
            "DATA" => {
                assert!(c.ask("DATA").starts_with("354"));
                c.ask(&format!("{content}."))
            }
            _ => {
                c.send(format!("BDAT {} LAST\r\n{content}", content.len()).as_bytes());
                c.reply()
            }
        };
        assert!(said.contains("OK id="), "{said}");
        let found = daemon.trace(&envid);
        assert_eq!(found["records"][0]["recipients"].as_array().map(Vec::len), Some(2), "{found:#}");
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            backfill(&daemon, &exim.log());
            let found = daemon.trace(&envid);
            let action = |who: &str| {
                let all = found["records"][0]["recipients"].as_array().cloned().unwrap_or_default();
                all.iter().find(|r| r["original_recipient"] == who).map(|r| r["action"].as_str().unwrap().to_string())
            };
            if action("bob@ex1.test").as_deref() == Some("delivered") && action("gone@ex1.test").as_deref() == Some("failed") {
                assert_eq!(found["records"].as_array().map(Vec::len), Some(1), "{found:#}");
                break;
            }
            let log = || std::fs::read_to_string(exim.log()).unwrap_or_default();
            assert!(Instant::now() < until, "{found:#}\n{}", log());
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
