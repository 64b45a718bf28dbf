//! Which servers offered TLS, and with which certificate: somebody in the middle can take the offer away (RFC 3887, 11).

use crate::mtqp::client::TlsFacts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Server {
    offers_tls: bool,
    /// SHA-1 of the certificate, in hex.
    #[serde(default)]
    certificate: Option<String>,
}

/// What is remembered. A file that cannot be read or written costs the memory, not the answer.
pub struct Memory {
    path: Option<PathBuf>,
    servers: BTreeMap<String, Server>,
    changed: bool,
}

impl Memory {
    /// Reads the file; the user's state folder has it where none is named.
    pub fn open(named: Option<PathBuf>) -> Self {
        let path = named.or_else(default_path);
        let text = path.as_ref().and_then(|p| std::fs::read(p).ok()).filter(|t| t.len() < 16 << 20);
        let servers = text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default();
        Memory { path, servers, changed: false }
    }

    /// Notes what a session was like, and says what is worse than it was.
    pub fn learn(&mut self, server: &str, offered: bool, tls: Option<&TlsFacts>) -> Vec<String> {
        let known = self.servers.get(server).cloned().unwrap_or_default();
        let mut warnings = Vec::new();
        if known.offers_tls && !offered {
            warnings.push(format!("{server} offered TLS before and does not now: somebody in between may have taken the offer away"));
        }
        let now = tls.map(|t| t.fingerprint.clone());
        // A certificate that holds may change: they are renewed. One that nobody vouches for is known by itself only.
        if let (Some(old), Some(new), Some(t)) = (&known.certificate, &now, tls)
            && old != new
            && !t.held
        {
            warnings.push(format!("{server} shows another certificate than before, and no root vouches for it"));
        }
        let next = Server { offers_tls: known.offers_tls || offered, certificate: now.or(known.certificate.clone()) };
        if next != known {
            self.servers.insert(server.to_string(), next);
            self.changed = true;
        }
        warnings
    }

    /// Writes the file, whole or not at all.
    pub fn save(&self) {
        let (Some(path), true) = (&self.path, self.changed) else { return };
        let write = || -> std::io::Result<()> {
            let dir = path.parent().unwrap_or(std::path::Path::new("."));
            std::fs::create_dir_all(dir)?;
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            serde_json::to_writer_pretty(&mut file, &self.servers)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        if let Err(e) = write() {
            anstream::eprintln!("msgtrk: warning: {}: {e}; which servers offer TLS is not remembered", path.display());
        }
    }
}

fn default_path() -> Option<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".local/state"));
    Some(state.or(home)?.join("msgtrk/mtqp-servers.json"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtqp::config::TlsVersion;

    #[test]
    fn rfc3887_11_a_server_that_stops_offering_tls_is_noticed_in_a_later_run() {
        let dir = tempfile::tempdir().unwrap();
        let path = Some(dir.path().join("state/servers.json"));
        let facts = |f: &str| TlsFacts { version: TlsVersion::Tls13, held: false, fingerprint: f.into() };
        let mut first = Memory::open(path.clone());
        assert!(first.learn("a.test", true, Some(&facts("aa"))).is_empty());
        assert!(first.learn("plain.test", false, None).is_empty());
        first.save();
        let mut second = Memory::open(path.clone());
        assert!(second.learn("a.test", true, Some(&facts("bb")))[0].contains("another certificate"));
        assert!(second.learn("a.test", false, None)[0].contains("offered TLS before"));
        assert!(second.learn("plain.test", false, None).is_empty());
        second.save();
        assert!(Memory::open(path).learn("a.test", false, None)[0].contains("offered TLS before"));
    }

    #[test]
    fn a_torn_file_is_an_empty_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("servers.json");
        std::fs::write(&path, b"{\"a\": {\"offe").unwrap();
        assert!(Memory::open(Some(path)).learn("a", false, None).is_empty());
    }
}
