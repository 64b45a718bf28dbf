//! The config file: names and zones of hosts, and what `msgtrk serve` watches, listens on and keeps.
//!
//! Every key is shown, with what it means, in `contrib/msgtrk.toml`; a test holds that file against this reader.
//! Unknown keys are errors. Units are in the names of the keys.

use crate::mtqp::config::ServerConfig;
use crate::resolve::clock::Zone;
use crate::smtp::config::{Lifetime, SmtpConfig};
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
    journal: Journal,
    syslog: Vec<Syslog>,
    mtqp: Option<ServerConfig>,
    metrics: Option<Metrics>,
    retention: Retention,
    query_log: QueryLog,
    smtp: SmtpConfig,
    dns: RawDns,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawDns {
    servers: Vec<SocketAddr>,
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

/// The systemd journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Journal {
    /// Whether it is followed. Default: only where nothing else is watched and none of the usual mail logs is there.
    pub follow: Option<bool>,
    /// A folder with journal files, in place of the system's journal.
    pub directory: Option<PathBuf>,
}

/// An address that syslog messages come to (RFC 3164 and RFC 5424; over TCP and TLS in octet counts or lines, RFC 6587).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// Address and port.
    pub listen: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// For TLS: file with the certificate chain, PEM.
    pub certificate: Option<PathBuf>,
    /// For TLS: file with the certificate's key, PEM.
    pub key: Option<PathBuf>,
}

/// How syslog messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// One message a datagram.
    Udp,
    /// A stream.
    Tcp,
    /// A stream within TLS (RFC 5425).
    Tls,
}

impl std::str::FromStr for Syslog {
    type Err = String;

    /// `udp:127.0.0.1:5514`, `tcp:[::]:514`.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither udp:ADDRESS:PORT nor tcp:ADDRESS:PORT (TLS needs the config file)");
        let (transport, listen) = text.split_once(':').ok_or_else(bad)?;
        let transport = match transport {
            "udp" => Transport::Udp,
            "tcp" => Transport::Tcp,
            _ => return Err(bad()),
        };
        Ok(Syslog { listen: listen.parse().map_err(|_| bad())?, transport, certificate: None, key: None })
    }
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
    /// Records of messages that arrived longer ago are dropped, but for those still queued. Default: everything is kept.
    pub retention_days: Option<u32>,
    /// When the index is larger, the oldest records go.
    pub max_index_bytes: Option<u64>,
    /// Addresses, login names, client names and IPs, and subjects of records older than this are masked; the rest is kept.
    pub anonymize_after_days: Option<u32>,
    /// How they are masked.
    pub anonymize: Anonymize,
}

/// The smallest index that makes sense, bytes.
const LEAST_INDEX: u64 = 16 << 20;

impl Retention {
    /// Whether anything is dropped or masked.
    pub fn is_set(&self) -> bool {
        self.retention_days.is_some() || self.max_index_bytes.is_some() || self.anonymize_after_days.is_some()
    }

    fn check(&self) -> Result<(), String> {
        if self.retention_days == Some(0) || self.anonymize_after_days == Some(0) {
            return Err("retention: retention_days and anonymize_after_days are at least 1".into());
        }
        if self.max_index_bytes.is_some_and(|n| n < LEAST_INDEX) {
            return Err(format!("retention: max_index_bytes is at least {LEAST_INDEX}"));
        }
        match (self.anonymize_after_days, self.retention_days) {
            (Some(a), Some(r)) if a >= r => {
                Err(format!("retention: nothing is left to anonymize after {a} days when it is dropped after {r}"))
            }
            _ => Ok(()),
        }
    }
}

/// How personal data is masked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anonymize {
    /// By a keyed hash: the same address gives the same mask within one index, so that records still join.
    #[default]
    Hash,
    /// By masks that say nothing; the addresses of one record are told apart by numbers, and records join by ids only.
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
    /// Ids, addresses and words by their keyed hash.
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
    /// The systemd journal.
    pub journal: Journal,
    /// Where syslog messages come to.
    pub syslog: Vec<Syslog>,
    /// The tracking server.
    pub mtqp: Option<ServerConfig>,
    /// Where figures are served.
    pub metrics: Option<Metrics>,
    /// What is kept, and how long.
    pub retention: Retention,
    /// Whether queries are logged.
    pub query_log: QueryLog,
    /// Gateways before and behind MTAs.
    pub smtp: SmtpConfig,
    /// Name servers to ask, address and port; none are the system's.
    pub name_servers: Vec<SocketAddr>,
}

/// Names and zones of hosts.
#[derive(Debug, Clone)]
pub struct Site {
    /// Zone of stamps that name none.
    pub zone: Zone,
    /// The site's own mail domains, in lower case; `*.example.org` stands for all below it.
    pub domains: Vec<String>,
    /// How long messages can be tracked whose mark a log bears.
    pub track: Lifetime,
    aliases: BTreeMap<String, String>,
    zones: BTreeMap<String, Zone>,
}

impl Default for Site {
    fn default() -> Self {
        Site { zone: Zone::Fixed(0), domains: Vec::new(), track: Lifetime::default(), aliases: BTreeMap::new(), zones: BTreeMap::new() }
    }
}

impl Site {
    /// No names, and one zone for all hosts.
    pub fn in_zone(zone: Zone) -> Self {
        Site { zone, ..Site::default() }
    }

    /// Other names of hosts, each with the name that it is kept under, in lower case.
    pub fn aliases(&self) -> &BTreeMap<String, String> {
        &self.aliases
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
        for s in &raw.syslog {
            if (s.transport == Transport::Tls) != (s.certificate.is_some() && s.key.is_some()) {
                return Err(format!("syslog {}: certificate and key go with transport = \"tls\"", s.listen));
            }
        }
        raw.retention.check()?;
        if let Some(mtqp) = &raw.mtqp {
            mtqp.check()?;
        }
        raw.smtp.check()?;
        site.track = raw.smtp.lifetime();
        Ok(Config {
            index: raw.index,
            parsers: raw.parsers,
            site,
            watch: raw.watch,
            dsn: raw.dsn,
            journal: raw.journal,
            syslog: raw.syslog,
            mtqp: raw.mtqp,
            metrics: raw.metrics,
            retention: raw.retention,
            query_log: raw.query_log,
            smtp: raw.smtp,
            name_servers: raw.dns.servers,
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
        assert_eq!((c.watch.len(), c.dsn.len(), c.site.domains.len(), c.syslog.len()), (1, 1, 2, 1));
        assert!(c.mtqp.is_some_and(|m| m.listen_tls.len() == 1 && m.chain.ask.len() == 1 && m.limits.max_queries == 16));
        assert!(c.smtp.listen.len() == 1 && c.smtp.out.is_some_and(|o| o.routes.len() == 1) && c.smtp.name.is_some());
        assert_eq!(c.name_servers, ["127.0.0.1:53".parse().unwrap()]);
        assert!(c.metrics.is_some() && c.retention.max_index_bytes.is_some() && c.query_log.file.is_some() && c.parsers.is_some());
        Config::parse(example, Zone::Fixed(0)).unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let wrong = |t: &str| Config::parse(t, Zone::Fixed(0)).unwrap_err();
        assert!(wrong("parser = 1").contains("parser"));
        assert!(wrong("timezone = \"Mars\"").contains("timezone"));
        assert!(wrong("[dns]\nservers = [\"ns.example\"]").contains("servers"));
        assert!(wrong("[retention]\nretention_days = 0").contains("retention_days"));
        assert!(wrong("[retention]\nmax_index_bytes = 7").contains("max_index_bytes"));
        assert!(wrong("[retention]\nretention_days = 9\nanonymize_after_days = 9").contains("9 days"));
        assert!(wrong("[hosts.a]\naliases=[\"x\"]\n[hosts.b]\naliases=[\"X\"]").contains("`X`"));
    }
}
