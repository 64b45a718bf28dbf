//! The systemd journal, by way of `journalctl --output=export --follow`: hosts without /var/log/mail.log.
//!
//! `journalctl` runs as a child process, read by a thread into a bounded channel. The position is
//! the journal's own cursor: after a restart (of the child, or of the daemon) reading goes on behind
//! it. A child that ends is started again, after one second at first, a minute at most.

mod export;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Sender;

use self::export::{Decoder, FIELDS};
use super::feed::{Feed, Parcel, Status};
use super::live::Wake;

/// Whether lines of a program (as syslog names it) are wanted.
pub type Wanted = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// Bytes asked for at once.
const CHUNK: usize = 64 * 1024;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often a pause looks whether it is over for good.
const TICK: Duration = Duration::from_millis(50);

/// What is read of the journal.
#[derive(Clone)]
pub struct JournalOptions {
    /// The program. Default: `journalctl`.
    pub program: PathBuf,
    /// A folder with journal files, in place of the system's journal.
    pub directory: Option<PathBuf>,
    /// Go on behind this cursor ([`super::live::Checkpoint::cursors`]); `None`: from the beginning.
    pub cursor: Option<String>,
    /// Host of entries that name none.
    pub host: String,
    /// Which programs' entries become lines. `None`: all.
    pub wanted: Option<Wanted>,
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions { program: PathBuf::from("journalctl"), directory: None, cursor: None, host: String::new(), wanted: None }
    }
}

/// Begins to read the journal. That there is no `journalctl`, or that it fails, is told by
/// [`super::live::Live::problems`], and tried again.
///
/// # Errors
/// Only if no thread can be started.
pub fn journal(options: JournalOptions, wake: Wake) -> io::Result<Feed> {
    let (sender, status, mut feed) = Feed::new("journal", options.cursor.clone());
    let child: Slot = Arc::default();
    let slot = child.clone();
    feed.stop = Some(Box::new(move || slot.kill()));
    let mut reader = Reader { cursor: options.cursor.clone(), options, sender, status, wake, child };
    thread::Builder::new().name("journal".into()).spawn(move || reader.run())?;
    Ok(feed)
}

/// The child, to be ended from another thread.
#[derive(Clone, Default)]
struct ChildSlot(Arc<Mutex<Option<Child>>>);

type Slot = Arc<ChildSlot>;

impl ChildSlot {
    fn put(&self, child: Child) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// Ends it, if it still runs.
    fn kill(&self) {
        if let Some(mut child) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

struct Reader {
    options: JournalOptions,
    cursor: Option<String>,
    sender: Sender<Parcel>,
    status: Arc<Status>,
    wake: Wake,
    child: Slot,
}

impl Reader {
    fn run(&mut self) {
        let mut pause = FIRST_PAUSE;
        while !self.sender.is_closed() {
            let before = self.cursor.clone();
            let why = match self.follow() {
                Ok(why) => why,
                Err(e) => e.to_string(),
            };
            self.child.kill();
            if self.sender.is_closed() {
                return;
            }
            if self.cursor != before {
                pause = FIRST_PAUSE;
            }
            let program = self.options.program.display();
            self.status.wrong(format!("journal: {program}: {why}; the journal is not read until it runs, it is started again and again"));
            (self.wake)();
            let mut waited = Duration::ZERO;
            while waited < pause && !self.sender.is_closed() {
                thread::sleep(TICK);
                waited += TICK;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut all: Vec<OsString> = ["--output=export", "--follow", "--no-tail", "--no-pager", "--quiet"].map(OsString::from).to_vec();
        all.push(format!("--output-fields={}", FIELDS.join(",")).into());
        if let Some(directory) = &self.options.directory {
            all.extend(["--directory".into(), directory.into()]);
        }
        if let Some(cursor) = &self.cursor {
            all.push(format!("--after-cursor={cursor}").into());
        }
        all
    }

    /// Runs the child to its end; says why that came.
    fn follow(&mut self) -> io::Result<String> {
        let mut command = Command::new(&self.options.program);
        let mut child = command.args(self.arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        self.child.put(child);
        if self.sender.is_closed() {
            return Ok(String::new());
        }
        let complaint = stderr.map(|mut pipe| {
            thread::spawn(move || {
                let mut text = Vec::new();
                let _ = pipe.by_ref().take(1024).read_to_end(&mut text);
                let _ = io::copy(&mut pipe, &mut io::sink());
                let mut out = Vec::new();
                super::text::escape(text.trim_ascii(), &mut out);
                String::from_utf8_lossy(&out).into_owned()
            })
        });
        let ended = stdout.map_or(Ok(String::new()), |out| self.read(out));
        self.child.kill();
        let complaint = complaint.and_then(|c| c.join().ok()).unwrap_or_default();
        Ok(match ended? {
            why if complaint.is_empty() => why,
            why => format!("{why}: {complaint}"),
        })
    }

    fn read(&mut self, mut out: ChildStdout) -> io::Result<String> {
        let mut decoder = Decoder::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let n = match out.read(&mut chunk) {
                Ok(0) => return Ok("it ended".into()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let mut entries = Vec::new();
            let result = decoder.feed(chunk.get(..n).unwrap_or_default(), &mut entries);
            let mut bytes = Vec::new();
            let mut cursor = None;
            for entry in entries {
                self.status.oversized.fetch_add(u64::from(entry.cut), Ordering::Relaxed);
                if self.options.wanted.as_ref().is_none_or(|wanted| wanted(entry.program())) {
                    bytes.extend(entry.line(&self.options.host).unwrap_or_default());
                }
                cursor = entry.cursor.or(cursor);
            }
            if cursor.is_some() || !bytes.is_empty() {
                self.status.well();
                self.cursor = cursor.clone().or(self.cursor.take());
                if self.sender.blocking_send(Parcel { bytes, cursor }).is_err() {
                    return Ok(String::new());
                }
                (self.wake)();
            }
            if result.is_err() {
                return Ok("it wrote something that is not the export format".into());
            }
        }
    }
}
