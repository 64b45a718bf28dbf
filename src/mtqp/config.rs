//! `[mtqp]` of the config file: what the server is told.

use super::answer::Policy;
use super::session::{OutOfService, RequireTls, Rules, StartTls};
use super::tracker::DEFAULT_LIFETIME_DAYS;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// `[mtqp]`. Every key may be left out.
///
/// ```
/// let config: msgtrk::mtqp::config::ServerConfig = toml::from_str(r#"
/// listen = ["0.0.0.0:1038"]            # plain, with STARTTLS where there is a certificate
/// listen_tls = ["0.0.0.0:1039"]        # TLS from the first byte
/// require_tls_for = ["example.org"]    # envelope ids of these domains
/// unknown = "noinfo"
/// certificates = [{ chain = "/etc/msgtrk/cert.pem", key = "/etc/msgtrk/key.pem" }]
/// [answer]
/// look = "final-hop"
/// own_domains = ["example.org"]
/// [chain]
/// ask = ["partner.example"]
/// [limits]
/// max_connections = 500
/// [resolve]
/// "b.test" = "127.0.0.2:10382"
/// "#).unwrap();
/// config.check().unwrap();
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Addresses to listen on, in the clear with STARTTLS. Port 0 takes any free one; the protocol's is 1038.
    pub listen: Vec<SocketAddr>,
    /// Addresses to listen on with TLS from the first byte.
    pub listen_tls: Vec<SocketAddr>,
    /// Certificates; the one that bears the name asked for is shown, the first where no name is given.
    pub certificates: Vec<Certificate>,
    /// Takes no sessions while it is set: `temporarily` or `for-good`; clients are told so (RFC 3887, 3).
    pub out_of_service: Option<OutOfService>,
    /// Plaintext is refused for every TRACK.
    pub require_tls: bool,
    /// Plaintext is refused for envelope ids of these domains and those below them.
    pub require_tls_for: Vec<String>,
    /// Least TLS version that is good enough: below it every command is answered `/insecure` (RFC 3887, 6.1).
    pub least_tls_version: TlsVersion,
    /// What is said of a message that is not known: `noinfo` or `opaque` (RFC 3887, 4).
    pub unknown: Unknown,
    /// Days that a message can be tracked from its arrival on, where its binding does not say (RFC 3885, 3.1).
    pub default_lifetime_days: u32,
    /// What an answer may show.
    pub answer: Policy,
    /// Whom to ask where a message went on elsewhere.
    pub chain: ChainConfig,
    /// Bounds.
    pub limits: Limits,
    /// Tracking servers by host name, in place of the DNS.
    pub resolve: BTreeMap<String, SocketAddr>,
    /// Name servers to ask; none are the system's. Not read from this table but from `[dns]`.
    #[serde(skip)]
    pub name_servers: Vec<SocketAddr>,
}

/// One certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// PEM file: the server's certificate, then those that lead to the root.
    pub chain: PathBuf,
    /// PEM file: its key.
    pub key: PathBuf,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2, the least that is spoken at all (RFC 8996).
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is said of a message that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// `-ERR/noinfo`
    #[default]
    NoInfo,
    /// A positive answer with action `opaque`.
    Opaque,
}

/// `[mtqp.chain]`: asking the next host's tracking server on the client's behalf (RFC 3887, 2.4).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// Domains (and all below them) whose hosts are asked; `["*"]` is everybody, `[]` nobody.
    pub ask: Vec<String>,
    /// Seconds for everything that one TRACK asks of others: 120 at most (RFC 3887, 2.4).
    pub timeout_seconds: u64,
    /// Hosts that one TRACK asks at most.
    pub max_hosts: usize,
    /// Most KiB of one host's answer.
    pub max_answer_kibibytes: usize,
    /// Certificates of next hosts must verify where the client came over TLS.
    pub verify_certificates: bool,
    /// PEM file of roots beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Private and loopback addresses that may be asked all the same: `10.1.0.0/16`. Those under `[mtqp.resolve]` always may.
    pub allow_addresses: Vec<String>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        ChainConfig {
            ask: vec![],
            // Below the two minutes, so that a server that chains to us still hears us in time.
            timeout_seconds: 110,
            max_hosts: 8,
            max_answer_kibibytes: 1024,
            verify_certificates: true,
            ca_file: None,
            allow_addresses: vec![],
        }
    }
}

/// `[mtqp.limits]`: bounds (R6).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections in all.
    pub max_connections: usize,
    /// Connections of one client: an IPv4 address or an IPv6 network of 64 bits.
    pub max_connections_per_client: usize,
    /// Commands of one session.
    pub max_commands: u64,
    /// Bad commands of one session.
    pub max_bad_commands: u32,
    /// Look-ups at a time.
    pub max_queries: usize,
    /// Seconds without any command: 600 at least (RFC 3887, 2.5).
    pub idle_timeout_seconds: u64,
    /// Seconds from the first byte of a command to its end.
    pub command_timeout_seconds: u64,
    /// Seconds for a TLS handshake.
    pub handshake_timeout_seconds: u64,
    /// Seconds for a client to take a response.
    pub write_timeout_seconds: u64,
    /// Seconds for a look-up, without chaining.
    pub query_timeout_seconds: u64,
    /// Seconds that a connection lasts at most.
    pub connection_timeout_seconds: u64,
    /// KiB of answers that are kept until something is committed; 0 keeps none.
    pub max_kept_answers_kibibytes: usize,
    /// Milliseconds that a failed TRACK takes at least; doubled with each further failure of the same client.
    pub failed_track_milliseconds: u64,
    /// Milliseconds that a failed TRACK takes at most.
    pub max_failed_track_milliseconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_connections: 1_000,
            max_connections_per_client: 50,
            max_commands: 10_000,
            max_bad_commands: 20,
            max_queries: 16,
            idle_timeout_seconds: 600,
            command_timeout_seconds: 60,
            handshake_timeout_seconds: 30,
            write_timeout_seconds: 60,
            query_timeout_seconds: 20,
            connection_timeout_seconds: 4 * 3600,
            max_kept_answers_kibibytes: 32 * 1024,
            failed_track_milliseconds: 50,
            max_failed_track_milliseconds: 10_000,
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            listen: vec![],
            listen_tls: vec![],
            certificates: vec![],
            out_of_service: None,
            require_tls: false,
            require_tls_for: vec![],
            least_tls_version: TlsVersion::Tls12,
            unknown: Unknown::NoInfo,
            default_lifetime_days: DEFAULT_LIFETIME_DAYS,
            answer: Policy::default(),
            chain: ChainConfig::default(),
            limits: Limits::default(),
            resolve: BTreeMap::new(),
            name_servers: vec![],
        }
    }
}

impl ServerConfig {
    /// Whether the values make sense together.
    ///
    /// # Errors
    /// What is wrong, with the name of the key.
    pub fn check(&self) -> Result<(), String> {
        let l = &self.limits;
        if l.idle_timeout_seconds < 600 {
            return Err("mtqp.limits.idle_timeout_seconds: 600 at least (RFC 3887, 2.5)".into());
        }
        if self.chain.timeout_seconds > 120 {
            return Err("mtqp.chain.timeout_seconds: 120 at most (RFC 3887, 2.4)".into());
        }
        if self.default_lifetime_days == 0 {
            return Err("mtqp.default_lifetime_days: one day at least (RFC 3885, 3.1)".into());
        }
        if !self.listen_tls.is_empty() && self.certificates.is_empty() {
            return Err("mtqp.listen_tls: needs mtqp.certificates".into());
        }
        if (self.require_tls || !self.require_tls_for.is_empty()) && self.certificates.is_empty() {
            return Err("mtqp.require_tls: needs mtqp.certificates".into());
        }
        let none = [l.max_connections, l.max_connections_per_client, l.max_queries, l.max_commands as usize, l.max_bad_commands as usize];
        if none.contains(&0) {
            return Err("mtqp.limits: a bound of 0 lets nobody in".into());
        }
        for a in &self.chain.allow_addresses {
            a.parse::<super::addresses::Range>().map_err(|e| format!("mtqp.chain.allow_addresses: {e}"))?;
        }
        Ok(())
    }

    /// What the dialogue needs to know.
    pub fn rules(&self) -> Rules {
        let domains: Vec<String> = self.require_tls_for.iter().map(|d| d.trim_start_matches("*.").to_ascii_lowercase()).collect();
        let require_tls = match (self.require_tls, domains.is_empty()) {
            (true, _) => RequireTls::Always,
            (false, true) => RequireTls::Never,
            (false, false) => RequireTls::Domains(domains),
        };
        Rules {
            starttls: if self.certificates.is_empty() { StartTls::Unsupported } else { StartTls::Offered },
            require_tls,
            out_of_service: self.out_of_service,
            max_commands: self.limits.max_commands,
            max_bad_commands: self.limits.max_bad_commands,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), String> {
        toml::from_str::<ServerConfig>(text).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn rfc3887_2_4_and_2_5_timers_have_their_bounds() {
        assert_eq!(check(""), Ok(()));
        assert!(check("[limits]\nidle_timeout_seconds = 599").unwrap_err().contains("idle_timeout_seconds"));
        assert!(check("[chain]\ntimeout_seconds = 121").unwrap_err().contains("timeout_seconds"));
        assert!(check("default_lifetime_days = 0").unwrap_err().contains("default_lifetime_days"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(check("colour = 1").unwrap_err().contains("colour"));
        assert!(check("listen_tls = [\"127.0.0.1:0\"]").unwrap_err().contains("certificates"));
        assert!(check("require_tls = true").unwrap_err().contains("certificates"));
        assert!(check("[chain]\nallow_addresses = [\"ten\"]").unwrap_err().contains("`ten`"));
        assert!(check("[limits]\nmax_queries = 0").is_err());
    }
}
