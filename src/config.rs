//! The config file: names and zones of hosts, and what `msgtrk serve` watches, listens on and keeps.
//!
//! Every key is shown, with what it means, in `contrib/msgtrk.toml`; a test holds that file against this reader.
//! Unknown keys are errors. Units are in the names of the keys.

use crate::resolve::clock::Zone;
use crate::smtp::config::SmtpConfig;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Io {
        /// File.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not TOML, has a key that is not known, or a value that makes no sense.
    #[error("{path}: {message}")]
    Bad {
        /// File.
        path: String,
        /// What and where.
        message: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    index: Option<PathBuf>,
    parsers: Option<PathBuf>,
    timezone: Option<String>,
    hosts: BTreeMap<String, RawHost>,
    site: RawSite,
    watch: Vec<Watch>,
    dsn: Vec<Mailbox>,
    metrics: Option<Metrics>,
    retention: Retention,
    query_log: QueryLog,
    smtp: SmtpConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawSite {
    domains: Vec<String>,
}

/// Log files to follow.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// A file, or a glob (`/srv/logs/*/mail.log`); files that match later are picked up. Rotated siblings belong to it.
    pub path: PathBuf,
    /// Host whose lines these are, where they name none (Exim's main log). Default: this machine.
    pub host: Option<String>,
}

/// A mailbox that delivery status notifications come to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mailbox {
    /// A Maildir, or an mbox file.
    pub path: PathBuf,
    /// What to do with a notification once it is committed. Only in a Maildir can it be moved or deleted.
    #[serde(default)]
    pub then: Then,
    /// For `then = "move"`: the Maildir to move it to.
    pub move_to: Option<PathBuf>,
}

/// What becomes of a notification that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is moved to another Maildir.
    Move,
    /// It is deleted.
    Delete,
}

/// Figures for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Address and port; there is no access control, so keep it on a loopback address.
    pub listen: SocketAddr,
}

/// How long records are kept for the operator. (How long a message can be tracked over MTQP is another clock.)
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Records of messages that arrived longer ago are dropped. Default: everything is kept.
    pub retention_days: Option<u32>,
    /// When the index is larger, the oldest records go.
    pub max_index_bytes: Option<u64>,
    /// Addresses, client names and IPs, and subjects of records older than this are masked; the rest is kept.
    pub anonymize_after_days: Option<u32>,
    /// How they are masked.
    pub anonymize: Anonymize,
}

/// How personal data is masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymize {
    /// By a keyed hash: the same address gives the same mask within one index, so that records still join.
    #[default]
    Hash,
    /// By one and the same mask.
    Drop,
}

/// Who asked what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryLog {
    /// Whether queries are logged.
    pub mode: QueryLogMode,
    /// File they are appended to, one JSON object a line. Default: `queries.jsonl` in the index folder.
    pub file: Option<PathBuf>,
}

/// How queries are logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueryLogMode {
    /// Not at all.
    #[default]
    Off,
    /// As asked.
    On,
    /// Ids and addresses by their hash.
    Hashed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    #[serde(default)]
    aliases: Vec<String>,
    timezone: Option<String>,
}

/// The config file, checked.
#[derive(Debug, Default)]
pub struct Config {
    /// Folder of the index.
    pub index: Option<PathBuf>,
    /// Folder of parser files.
    pub parsers: Option<PathBuf>,
    /// Names and zones.
    pub site: Site,
    /// Logs to follow.
    pub watch: Vec<Watch>,
    /// Mailboxes to follow.
    pub dsn: Vec<Mailbox>,
    /// Where figures are served.
    pub metrics: Option<Metrics>,
    /// What is kept, and how long.
    pub retention: Retention,
    /// Whether queries are logged.
    pub query_log: QueryLog,
    /// Gateways before and behind MTAs.
    pub smtp: SmtpConfig,
}

/// Names and zones of hosts.
#[derive(Debug, Clone)]
pub struct Site {
    /// Zone of stamps that name none.
    pub zone: Zone,
    /// The site's own mail domains, in lower case; `*.example.org` stands for all below it.
    pub domains: Vec<String>,
    aliases: BTreeMap<String, String>,
    zones: BTreeMap<String, Zone>,
}

impl Default for Site {
    fn default() -> Self {
        Site { zone: Zone::Fixed(0), domains: Vec::new(), aliases: BTreeMap::new(), zones: BTreeMap::new() }
    }
}

impl Site {
    /// No names, and one zone for all hosts.
    pub fn in_zone(zone: Zone) -> Self {
        Site { zone, ..Site::default() }
    }

    /// The name under which a host is kept.
    pub fn host_name(&self, written: &str) -> String {
        let name = written.to_lowercase();
        self.aliases.get(&name).cloned().unwrap_or(name)
    }

    /// The zone of a host's stamps that name none.
    pub fn zone_of(&self, host: &str) -> Zone {
        self.zones.get(host).copied().unwrap_or(self.zone)
    }

    /// Says which zone a host's stamps are in.
    pub fn set_zone(&mut self, host: &str, zone: Zone) {
        let name = self.host_name(host);
        self.zones.insert(name, zone);
    }
}

impl Config {
    /// Reads a config file. `zone` holds where the file names none (the machine's own).
    pub fn read(path: &Path, zone: Zone) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Io { path: name.clone(), error })?;
        Self::parse(&text, zone).map_err(|message| ConfigError::Bad { path: name, message })
    }

    fn parse(text: &str, zone: Zone) -> Result<Self, String> {
        let raw: RawConfig = toml::from_str(text).map_err(|e| e.to_string().trim_end().to_string())?;
        let parse = |z: &str, of: &str| z.parse::<Zone>().map_err(|e| format!("{of}: {e}"));
        let mut site = Site { zone, ..Site::default() };
        if let Some(z) = &raw.timezone {
            site.zone = parse(z, "timezone")?;
        }
        for (host, h) in &raw.hosts {
            let host = host.to_lowercase();
            for alias in &h.aliases {
                if let Some(other) = site.aliases.insert(alias.to_lowercase(), host.clone()) {
                    return Err(format!("hosts.\"{host}\": the alias `{alias}` is `{other}`'s already"));
                }
            }
            if let Some(z) = &h.timezone {
                site.zones.insert(host.clone(), parse(z, &format!("hosts.\"{host}\".timezone"))?);
            }
        }
        site.domains = raw.site.domains.iter().map(|d| d.trim_start_matches('@').to_lowercase()).collect();
        for mailbox in &raw.dsn {
            if (mailbox.then == Then::Move) != mailbox.move_to.is_some() {
                return Err(format!("dsn {}: then = \"move\" and move_to go together", mailbox.path.display()));
            }
        }
        raw.smtp.check()?;
        Ok(Config {
            index: raw.index,
            parsers: raw.parsers,
            site,
            watch: raw.watch,
            dsn: raw.dsn,
            metrics: raw.metrics,
            retention: raw.retention,
            query_log: raw.query_log,
            smtp: raw.smtp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_aliases_and_zones() {
        let c =
            Config::parse("[hosts.\"MX1.example\"]\naliases = [\"mx1\", \"192.0.2.1\"]\ntimezone = \"+02:00\"\n", Zone::Fixed(0)).unwrap();
        assert_eq!(c.site.host_name("MX1"), "mx1.example");
        assert_eq!(c.site.host_name("mx2"), "mx2");
        assert_eq!(c.site.zone_of("mx1.example"), Zone::Fixed(7200));
        assert_eq!(c.site.zone_of("mx2"), Zone::Fixed(0));
    }

    #[test]
    fn the_example_shows_every_key_and_only_keys_that_there_are() {
        let example = include_str!("../contrib/msgtrk.toml");
        // `#key = ` and `#[table]` are keys; prose has a space behind the `#`.
        let bare: String =
            example.lines().map(|l| l.strip_prefix('#').filter(|r| !r.starts_with(' ')).unwrap_or(l).to_string() + "\n").collect();
        let c = Config::parse(&bare.replace("then = \"keep\"", "then = \"move\""), Zone::Fixed(0)).unwrap();
        assert_eq!((c.watch.len(), c.dsn.len(), c.site.domains.len()), (1, 1, 2));
        assert!(c.smtp.listen.len() == 1 && c.smtp.out.is_some_and(|o| o.routes.len() == 1) && c.smtp.name.is_some());
        assert!(c.metrics.is_some() && c.retention.max_index_bytes.is_some() && c.query_log.file.is_some() && c.parsers.is_some());
        Config::parse(example, Zone::Fixed(0)).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |t: &str| Config::parse(t, Zone::Fixed(0)).unwrap_err();
        assert!(wrong("parser = 1").contains("parser"));
        assert!(wrong("timezone = \"Mars\"").contains("timezone"));
        assert!(wrong("[hosts.a]\naliases=[\"x\"]\n[hosts.b]\naliases=[\"X\"]").contains("`X`"));
    }
}
