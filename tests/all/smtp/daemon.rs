//! A running `msgtrk serve`, a client's end of a session, and a scripted server.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// `msgtrk serve`, killed with the test.
pub struct Daemon {
    child: Child,
    pub index: PathBuf,
    listening: Vec<(String, SocketAddr)>,
}

impl Daemon {
    pub fn start(index: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_msgtrk"));
        command.env_remove("MSGTRK_INDEX").env("TZ", "UTC").env("MSGTRK_LOG", "info").arg("--index").arg(index).arg("serve").args(args);
        let log = std::fs::File::create(index.with_extension("stderr")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let line = first_line(child.stdout.take().unwrap(), &mut child);
        assert!(line.starts_with("ready"), "{line:?}: {}", std::fs::read_to_string(index.with_extension("stderr")).unwrap());
        let words = line.split_whitespace().skip(1).filter_map(|w| w.split_once('='));
        let listening = words.map(|(name, address)| (name.to_string(), address.parse().unwrap())).collect();
        Daemon { child, index: index.into(), listening }
    }

    /// The n-th address of that name.
    pub fn address(&self, name: &str, n: usize) -> SocketAddr {
        self.listening.iter().filter(|(of, _)| of == name).nth(n).unwrap().1
    }

    /// `msgtrk trace ID --json`, asked of the daemon.
    pub fn trace(&self, id: &str) -> serde_json::Value {
        let out = crate::support::msgtrk(&self.index, &["trace", id, "--json", "--lines"]);
        serde_json::from_slice(&out.stdout).unwrap_or_default()
    }

    /// Asks until an answer fits, 60 seconds at most, and has the log read each time, unless the daemon follows it itself.
    pub fn trace_until(&self, log: Option<&Path>, id: &str, fits: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let read = || {
            if let Some(log) = log {
                crate::support::msgtrk(&self.index, &["backfill", "--quiet", log.to_str().unwrap()]);
            }
            self.trace(id)
        };
        until(read, fits)
    }

    pub fn stop(mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Asks until an answer fits, 60 seconds at most; the latest answer.
pub fn until<T>(mut ask: impl FnMut() -> T, fits: impl Fn(&T) -> bool) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = ask();
        if fits(&found) || Instant::now() > end {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The first line that a program writes; it is killed where that takes too long.
fn first_line(out: std::process::ChildStdout, child: &mut Child) -> String {
    let (say, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(out).read_line(&mut line);
        let _ = say.send(line);
    });
    told.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        let _ = child.kill();
        let _ = child.wait();
        format!("nothing for {PATIENCE:?}")
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a reply is waited for: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client's end.
pub struct Client {
    pub stream: TcpStream,
    bytes: Vec<u8>,
}

impl Client {
    pub fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, bytes: vec![] }
    }

    /// The next whole reply; empty at the end.
    pub fn reply(&mut self) -> String {
        let mut from = 0;
        let mut out = String::new();
        loop {
            while let Some(n) = self.bytes[from..].iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&self.bytes[from..from + n + 1]).into_owned();
                from += n + 1;
                out.push_str(&line);
                if line.as_bytes().get(3) != Some(&b'-') {
                    self.bytes.drain(..from);
                    return out;
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(n @ 1..) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    panic!("no whole reply for {PATIENCE:?}, only {out:?} and {:?}", self.bytes.escape_ascii().to_string())
                }
                _ => return out,
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends, and gives the next reply.
    pub fn ask(&mut self, line: &str) -> String {
        self.send(line.as_bytes());
        self.send(b"\r\n");
        self.reply()
    }
}

/// What a scripted server was told: commands, and content as a line of its own.
pub type Told = Arc<Mutex<Vec<String>>>;

/// A server that says yes to all; its queue ids are `prefix` and a number.
pub fn scripted(keywords: &'static [&'static str], prefix: &'static str) -> (SocketAddr, Told) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told: Told = Arc::default();
    let all = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), told) = (stream, Arc::clone(&all)) else { continue };
            std::thread::spawn(move || session(stream, keywords, prefix, &told));
        }
    });
    (address, told)
}

fn session(stream: TcpStream, keywords: &[&str], prefix: &str, told: &Told) {
    let mut out = stream.try_clone().unwrap();
    let mut lines = BufReader::new(stream);
    let mut say = move |text: String| out.write_all(text.as_bytes()).is_ok();
    say("220 scripted.test ESMTP\r\n".into());
    let mut data = None::<String>;
    loop {
        let mut line = String::new();
        if !matches!(lines.read_line(&mut line), Ok(1..)) {
            return;
        }
        if let Some(content) = &mut data {
            if line != ".\r\n" {
                content.push_str(&line);
                continue;
            }
            let mut told = told.lock().unwrap();
            told.push(data.take().unwrap());
            let n = told.len();
            drop(told);
            say(format!("250 2.0.0 Ok: queued as {prefix}{n:04}\r\n"));
            continue;
        }
        let line = line.trim_end();
        told.lock().unwrap().push(line.to_string());
        let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
        let fine = match verb.as_str() {
            "EHLO" => {
                let text = format!("scripted.test\n{}", keywords.join("\n"));
                let lines: Vec<&str> = text.trim_end().split('\n').collect();
                let last = lines.len() - 1;
                say(lines.iter().enumerate().map(|(n, l)| format!("250{}{l}\r\n", if n == last { ' ' } else { '-' })).collect())
            }
            "DATA" => {
                data = Some(String::new());
                say("354 go on\r\n".into())
            }
            "QUIT" => {
                say("221 Bye\r\n".into());
                false
            }
            _ if line.contains("<later@") => say("450 4.2.1 come later\r\n".into()),
            _ if line.contains("<refused@") => say("550 5.1.1 no such user\r\n".into()),
            _ => say("250 2.0.0 Ok\r\n".into()),
        };
        if !fine {
            return;
        }
    }
}

/// A certifier, of the secret `secret`.
pub fn certifier(secret: &[u8]) -> String {
    use base64::Engine as _;
    use sha1::Digest as _;
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(sha1::Sha1::digest(secret))
}
