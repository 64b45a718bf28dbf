//! A Postfix of the test's own, with its own config, queue and log.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub struct Postfix {
    dir: tempfile::TempDir,
    pub smtp: SocketAddr,
}

const MASTER: &str = "\
PORT inet n - n - 200 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
";

impl Postfix {
    /// Starts one, or says why not. Mail for relay.test goes to `relay`.
    pub fn start(main: &str, relay: Option<SocketAddr>) -> Option<Self> {
        let root = rustix::process::geteuid().is_root();
        if !root || !Path::new("/usr/sbin/postfix").exists() {
            eprintln!("skipped: {}", if root { "Postfix is not installed" } else { "Postfix is started by root only" });
            return None;
        }
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let smtp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["conf", "queue", "data", "mail"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        let p = dir.path().display();
        let text = format!(
            "compatibility_level = 3.6\nqueue_directory = {p}/queue\ndata_directory = {p}/data\nmaillog_file = {p}/mail.log\nmaillog_file_prefixes = {p}\n\
             myhostname = mx1.test\nmydestination =\nmynetworks = 127.0.0.0/8\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nalias_maps =\n\
             virtual_mailbox_domains = local.test\nvirtual_mailbox_base = {p}/mail\nvirtual_mailbox_maps = static:all/\nvirtual_uid_maps = static:65534\n\
             virtual_gid_maps = static:65534\nvirtual_minimum_uid = 100\nsmtpd_error_sleep_time = 0\nsmtpd_hard_error_limit = 1000\nsmtpd_soft_error_limit = 1000\n\
             smtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\nin_flow_delay = 0\nsmtp_dns_support_level = disabled\n\
             transport_maps = inline:{{ {{gone.test=discard:}} {{slow.test=smtp:[127.0.0.1]:9}} RELAY }}\n\
             virtual_alias_domains =\nvirtual_alias_maps = inline:{{ {{team@local.test=one@local.test two@local.test}} }}\n{main}\n"
        );
        let relay = relay.map(|r| format!("{{relay.test=smtp:[{}]:{}}}", r.ip(), r.port())).unwrap_or_default();
        std::fs::write(at("conf/main.cf"), text.replace("RELAY", &relay)).unwrap();
        std::fs::write(at("conf/master.cf"), MASTER.replace("PORT", &smtp.to_string())).unwrap();
        let shell = format!(
            "chmod 755 {p} && chown -R 65534 {p}/mail && chown postfix {p}/data && timeout 60 /usr/sbin/postfix -c {p}/conf start 2>{p}/start.err"
        );
        let started = Command::new("sh").args(["-c", &shell]).status().unwrap().success();
        let postfix = Postfix { dir, smtp };
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(smtp).is_err() {
            let why = || std::fs::read_to_string(postfix.at("start.err")).unwrap_or_default() + &postfix.log_text();
            assert!(started && Instant::now() < until, "Postfix does not start: {}", why());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(postfix)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> PathBuf {
        self.at("mail.log")
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Waits until nothing is in the queue but what is deferred.
    pub fn settle(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        let count = |name: &str| {
            let files = std::fs::read_dir(self.at("queue").join(name)).into_iter().flatten();
            files.flatten().filter(|f| f.file_type().is_ok_and(|t| t.is_file())).count()
        };
        while ["maildrop", "incoming", "active"].iter().any(|n| count(n) > 0) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Messages in the mailboxes, without the lines that delivery adds, sorted; the mailboxes are empty then.
    pub fn mail(&self) -> Vec<Vec<u8>> {
        self.settle();
        let mut all = Vec::new();
        for file in std::fs::read_dir(self.at("mail/all/new")).into_iter().flatten().flatten() {
            let text = std::fs::read(file.path()).unwrap();
            std::fs::remove_file(file.path()).unwrap();
            all.push(without_trace(&text));
        }
        all.sort();
        all
    }
}

/// A message without its Received, Delivered-To, X-Original-To, Message-Id (where Postfix made it) and Date headers.
fn without_trace(text: &[u8]) -> Vec<u8> {
    const ADDED: &[&str] = &["received:", "delivered-to:", "x-original-to:", "message-id:", "date:"];
    let (mut out, mut skip, mut head) = (Vec::new(), false, true);
    for line in text.split_inclusive(|b| *b == b'\n') {
        head &= line != b"\n";
        let lower = String::from_utf8_lossy(line).to_lowercase();
        skip = head && if line.starts_with(b" ") || line.starts_with(b"\t") { skip } else { ADDED.iter().any(|a| lower.starts_with(a)) };
        if !skip {
            out.extend_from_slice(line);
        }
    }
    out
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let conf = self.at("conf").display().to_string();
        // A drop must not panic: the bound is coreutils'.
        let _ = Command::new("timeout").args(["60", "/usr/sbin/postfix", "-c", &conf, "stop"]).output();
    }
}
