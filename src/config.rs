//! The site: names and zones of its hosts, and the config file that says so.
//!
//! ```toml
//! parsers  = "/etc/msgtrk/parsers"     # parser files over the built-in ones
//! timezone = "Europe/Berlin"           # of stamps that name none
//!
//! [hosts."mx1.example.org"]            # one host, whatever its lines call it
//! aliases  = ["mx1", "192.0.2.10"]
//! timezone = "UTC"
//! ```

use crate::resolve::clock::Zone;
use serde::Deserialize;
use std::collections::BTreeMap;
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
#[serde(deny_unknown_fields)]
struct RawConfig {
    parsers: Option<PathBuf>,
    timezone: Option<String>,
    #[serde(default)]
    hosts: BTreeMap<String, RawHost>,
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
    /// Folder of parser files.
    pub parsers: Option<PathBuf>,
    /// Names and zones.
    pub site: Site,
}

/// Names and zones of hosts.
#[derive(Debug, Clone)]
pub struct Site {
    /// Zone of stamps that name none.
    pub zone: Zone,
    aliases: BTreeMap<String, String>,
    zones: BTreeMap<String, Zone>,
}

impl Default for Site {
    fn default() -> Self {
        Site { zone: Zone::Fixed(0), aliases: BTreeMap::new(), zones: BTreeMap::new() }
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
        Ok(Config { parsers: raw.parsers, site })
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
    fn what_is_wrong_is_named() {
        let wrong = |t: &str| Config::parse(t, Zone::Fixed(0)).unwrap_err();
        assert!(wrong("parser = 1").contains("parser"));
        assert!(wrong("timezone = \"Mars\"").contains("timezone"));
        assert!(wrong("[hosts.a]\naliases=[\"x\"]\n[hosts.b]\naliases=[\"X\"]").contains("`X`"));
    }
}
