//! What the user sent: secrets and what is needed to ask for the state later. One file a message, for the user's eyes only
//! (RFC 3885, 4.2).

use crate::mtqp::command::Secret;
use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of a secret: 256 bits, of which RFC 3885, 3.1 wants 128 to 1024.
pub const SECRET_BYTES: usize = 32;

/// A message that was sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sent {
    /// Version of this form.
    pub version: u32,
    /// When, seconds since 1970.
    pub sent: i64,
    /// ENVID as sent (xtext).
    pub envelope_id: String,
    /// Secret A, base64.
    pub secret: String,
    /// Tracking server, `host[:port]`.
    pub server: String,
    /// Sender.
    pub from: String,
    /// Recipients.
    pub to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Message-ID without brackets.
    pub message_id: String,
    /// Whether the server took the mark.
    pub tracked: bool,
    /// What the server said in the end; none until then.
    pub reply: Option<String>,
    /// What was learnt last, by recipient.
    #[serde(default)]
    pub states: Vec<State>,
    /// When it was learnt, seconds since 1970.
    pub asked: Option<i64>,
}

/// What is known of a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// As addressed.
    pub recipient: String,
    /// RFC 3886's word.
    pub action: String,
    /// Status.
    pub status: String,
    /// Host that says so.
    pub at: String,
}

impl Sent {
    /// Whether nothing more will come of it.
    pub fn is_over(&self) -> bool {
        let done = |s: &State| matches!(s.action.as_str(), "delivered" | "failed" | "relayed" | "expanded" | "opaque");
        !self.states.is_empty() && self.states.iter().all(done)
    }

    /// The secret.
    pub fn secret(&self) -> anyhow::Result<Secret> {
        Secret::from_base64(&self.secret).ok_or_else(|| anyhow!("{}: its secret is damaged", self.envelope_id))
    }
}

/// The folder.
pub struct SentStore {
    dir: PathBuf,
}

/// `msgtrk-sent` in the user's data folder.
fn default_dir() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/share"));
    Some(data.or(home)?.join("msgtrk-sent"))
}

impl SentStore {
    /// The folder named, or the user's own; made if it is not there, and closed to all others.
    pub fn open(named: Option<&Path>) -> anyhow::Result<Self> {
        let dir = named.map(Path::to_path_buf).or_else(default_dir).ok_or_else(|| anyhow!("no HOME: name a folder with --store"))?;
        let wrong = || dir.display().to_string();
        if !dir.is_dir() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).with_context(wrong)?;
        }
        if std::fs::metadata(&dir).with_context(wrong)?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).with_context(wrong)?;
        }
        Ok(SentStore { dir })
    }

    fn path(&self, sent: &Sent) -> PathBuf {
        let name: String = sent.envelope_id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.dir.join(format!("{}-{name}.json", sent.sent))
    }

    /// Writes a message's file, whole or not at all, and to the disk before it returns.
    pub fn put(&self, sent: &Sent) -> anyhow::Result<()> {
        let path = self.path(sent);
        let write = || -> std::io::Result<()> {
            // A temporary file is its owner's alone (0600) from the first moment.
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer_pretty(&mut file, sent)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            std::fs::File::open(&self.dir)?.sync_all()
        };
        write().with_context(|| path.display().to_string())
    }

    /// Takes a message's file away: it was not sent.
    pub fn remove(&self, sent: &Sent) {
        let _ = std::fs::remove_file(self.path(sent));
    }

    /// All messages, oldest first; files that are none are named in the second list.
    pub fn all(&self) -> anyhow::Result<(Vec<Sent>, Vec<String>)> {
        let (mut all, mut wrong) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&self.dir).with_context(|| self.dir.display().to_string())? {
            let path = entry?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let read = std::fs::read(&path).map_err(|e| e.to_string());
            match read.and_then(|t| serde_json::from_slice::<Sent>(&t).map_err(|e| e.to_string())) {
                Ok(sent) => all.push(sent),
                Err(e) => wrong.push(format!("{}: {e}", path.display())),
            }
        }
        all.sort_by(|a, b| (a.sent, &a.envelope_id).cmp(&(b.sent, &b.envelope_id)));
        Ok((all, wrong))
    }
}
