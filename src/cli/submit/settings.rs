//! Where `msgtrk submit` sends to, and as whom: the user's own file.

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `submit.toml`. Every key may be left out; arguments count more.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Submission server, `host[:port]`; port 587 with STARTTLS, 465 with TLS from the first byte.
    pub server: Option<String>,
    /// TLS.
    pub tls: Tls,
    /// PEM file of further root certificates.
    pub ca: Option<PathBuf>,
    /// Login name.
    pub user: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Command whose first line of output is the password; run by `sh`.
    pub password_command: Option<String>,
    /// Sender, where neither -f nor the message names one.
    pub from: Option<String>,
    /// Whether messages are marked for tracking.
    pub mtrk: Mtrk,
    /// Seconds that tracking is asked for; the server's default where it is not named.
    pub track_seconds: Option<u32>,
    /// Tracking server, `host[:port]`. Default: that of the submission server's name.
    pub tracking_server: Option<String>,
    /// Name of this machine in EHLO and in envelope ids. Default: its own.
    pub name: Option<String>,
    /// Folder where secrets are kept. Default: `msgtrk-sent` in the user's data folder.
    pub store: Option<PathBuf>,
}

/// How TLS is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// STARTTLS, and nothing is sent without it.
    #[default]
    Starttls,
    /// From the first byte.
    Implicit,
    /// None: for a server on this machine.
    Off,
}

/// Whether a message is marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mtrk {
    /// It is not sent if the server does not track.
    Require,
    /// Where the server tracks.
    #[default]
    Prefer,
    /// Also where the server does not say that it tracks: its log does it (contrib/smtp.md). A server that knows nothing of it refuses.
    Always,
    /// Never.
    Off,
}

/// `msgtrk/submit.toml` in the user's config folder.
pub fn default_path() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config"));
    Some(config.or(home)?.join("msgtrk/submit.toml"))
}

impl Settings {
    /// Reads a file; without a name the user's own, if there is one.
    pub fn read(named: Option<&Path>) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_path_buf(),
            None => match default_path().filter(|p| p.is_file()) {
                Some(path) => path,
                None => return Ok(Settings::default()),
            },
        };
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).map_err(|e| anyhow!("{}: {}", path.display(), e.to_string().trim_end()))
    }

    /// The server's host and `host:port`.
    pub fn server(&self) -> anyhow::Result<(String, String)> {
        let text = self.server.as_deref().filter(|s| !s.is_empty());
        let text = text.ok_or_else(|| anyhow!("no server: name one with --server, or as `server` in {}", shown_path()))?;
        let port = if self.tls == Tls::Implicit { 465 } else { 587 };
        let bare = |host: &str| host.trim_matches(['[', ']']).to_string();
        match text.rsplit_once(':') {
            Some((host, p)) if !host.contains(':') || host.ends_with(']') => {
                p.parse::<u16>().map_err(|_| anyhow!("--server: `{p}` is no port"))?;
                Ok((bare(host), text.to_string()))
            }
            _ if text.contains(':') => Ok((bare(text), format!("[{}]:{port}", bare(text)))),
            _ => Ok((text.to_string(), format!("{text}:{port}"))),
        }
    }

    /// The password, if a login name is set.
    pub fn login(&self) -> anyhow::Result<Option<(String, String)>> {
        let Some(user) = &self.user else { return Ok(None) };
        let text = match (&self.password_file, &self.password_command) {
            (Some(path), None) => {
                use std::os::unix::fs::PermissionsExt;
                let open = |e| anyhow!("{}: {e}", path.display());
                if std::fs::metadata(path).map_err(open)?.permissions().mode() & 0o077 != 0 {
                    bail!("{}: others can read the password: chmod 600 it", path.display());
                }
                std::fs::read_to_string(path).map_err(open)?
            }
            (None, Some(command)) => {
                let out = std::process::Command::new("sh").args(["-c", command]).stdin(std::process::Stdio::null()).output()?;
                if !out.status.success() {
                    bail!("password_command: {}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim_end());
                }
                String::from_utf8(out.stdout).context("password_command")?
            }
            (None, None) => bail!("user {user}: a password is needed: password_file or password_command"),
            (Some(_), Some(_)) => bail!("password_file and password_command: one of them"),
        };
        let password = text.lines().next().unwrap_or_default().to_string();
        Ok(Some((user.clone(), password)))
    }
}

fn shown_path() -> String {
    default_path().map_or_else(|| "submit.toml".into(), |p| p.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_shows_every_key_and_only_keys_that_there_are() {
        let example = include_str!("../../../contrib/submit.toml");
        let bare = |l: &str| l.strip_prefix('#').filter(|r| !r.starts_with(' ')).unwrap_or(l).to_string() + "\n";
        let s: Settings = toml::from_str(&example.lines().map(bare).collect::<String>()).unwrap();
        let all = [&s.server, &s.user, &s.password_command, &s.from, &s.tracking_server, &s.name];
        assert!(
            all.iter().all(|k| k.is_some())
                && s.ca.is_some()
                && s.password_file.is_some()
                && s.track_seconds.is_some()
                && s.store.is_some()
        );
        toml::from_str::<Settings>(example).unwrap();
    }

    #[test]
    fn a_server_is_a_name_or_an_address_with_or_without_a_port() {
        let of =
            |server: &str, tls| Settings { server: Some(server.into()), tls, ..Settings::default() }.server().map_err(|e| e.to_string());
        let is = |host: &str, at: &str| Ok((host.to_string(), at.to_string()));
        assert_eq!(of("mail.test", Tls::Starttls), is("mail.test", "mail.test:587"));
        assert_eq!(of("mail.test", Tls::Implicit), is("mail.test", "mail.test:465"));
        assert_eq!(of("mail.test:25", Tls::Off), is("mail.test", "mail.test:25"));
        assert_eq!(of("2001:db8::1", Tls::Off), is("2001:db8::1", "[2001:db8::1]:587"));
        assert_eq!(of("[2001:db8::1]:25", Tls::Off), is("2001:db8::1", "[2001:db8::1]:25"));
        assert!(of("mail.test:smtp", Tls::Off).is_err() && of("", Tls::Off).is_err());
    }
}
