//! `[smtp]` in the config file: the gateways.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The gateways, and what all of them share.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SmtpConfig {
    /// Gateways before an MTA.
    pub listen: Vec<Listen>,
    /// Gateway behind an MTA: its next hop.
    pub out: Option<Outbound>,
    /// Certificates for TLS, PEM, the server's own first.
    pub certificate: Option<PathBuf>,
    /// Key of the certificate, PEM.
    pub key: Option<PathBuf>,
    /// Name that the gateway gives itself where it must speak first. Default: this machine's name.
    pub name: Option<String>,
    /// AUTH is offered outside TLS, too, if the backend offers it.
    pub auth_without_tls: bool,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once of one IPv4 address, or one IPv6 /64.
    pub max_connections_per_address: usize,
    /// Days that a marked message can be tracked where its sender named no timeout (RFC 3885, 3.1: 8 to 10).
    pub track_days: u32,
    /// Days that a marked message can be tracked at most, whatever its sender asked for; at least 1 (RFC 3885, 3.1).
    pub max_track_days: u32,
}

impl Default for SmtpConfig {
    fn default() -> Self {
        SmtpConfig {
            listen: Vec::new(),
            out: None,
            certificate: None,
            key: None,
            name: None,
            auth_without_tls: false,
            max_connections: 1_000,
            max_connections_per_address: 50,
            track_days: 10,
            max_track_days: 30,
        }
    }
}

/// A gateway before an MTA.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The MTA: `host:port`, the path of a socket, or `tls://host:port` where it speaks TLS from the first byte (RFC 8314).
    pub backend: String,
    /// Whether its certificate must be good for its name. Default: it must.
    pub verify_backend: Option<bool>,
    /// Certificates that may have signed it, PEM, besides the system's.
    pub backend_ca: Option<PathBuf>,
    /// What is spoken on both sides.
    #[serde(default)]
    pub protocol: Protocol,
    /// TLS towards clients. Default: STARTTLS where there is a certificate.
    pub tls: Option<Tls>,
    /// How the backend is told who the client is. Must be said where others than this machine can connect.
    pub client: Option<ClientBy>,
    /// Host under which the MTA's log lines are kept. Default: this machine.
    pub host: Option<String>,
    /// Parser file that reads the MTA's log.
    #[serde(default = "postfix")]
    pub mta: String,
    /// Instance of the MTA as its log names it (`postfix-in`). Default: the parser file's name.
    pub instance: Option<String>,
}

fn postfix() -> String {
    "postfix".into()
}

/// What is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SMTP (RFC 5321).
    #[default]
    Smtp,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// TLS towards clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// None.
    Off,
    /// When the client asks for it (RFC 3207).
    Starttls,
    /// From the first byte (RFC 8314).
    Implicit,
}

/// How the backend is told who the client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientBy {
    /// Not at all: it sees the gateway's address.
    None,
    /// PROXY protocol, version 1 (Postfix: `smtpd_upstream_proxy_protocol = haproxy`; Exim: `hosts_proxy`).
    ProxyV1,
    /// PROXY protocol, version 2.
    ProxyV2,
    /// XCLIENT (Postfix: `smtpd_authorized_xclient_hosts`).
    Xclient,
}

/// A gateway behind an MTA.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// Address and port. Whoever may connect can send mail through it: keep it on a loopback address.
    pub listen: SocketAddr,
    /// Next hosts by recipient domain (`host:port`), in place of what DNS says; `*` is for all others.
    #[serde(default)]
    pub routes: BTreeMap<String, String>,
    /// Whether the next host's certificate must be good for its name. Default: opportunistic, any certificate is better than none.
    #[serde(default)]
    pub verify_tls: bool,
}

impl SmtpConfig {
    /// What makes no sense, and what to do.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("smtp: certificate and key go together".into());
        }
        let wants_tls = self.listen.iter().find(|l| l.tls.is_some_and(|t| t != Tls::Off) && self.certificate.is_none());
        if let Some(l) = wants_tls {
            return Err(format!("smtp: {} wants TLS, but there is no certificate", l.listen));
        }
        self.listen.iter().try_for_each(Listen::check)?;
        if self.max_track_days == 0 || self.track_days == 0 {
            return Err("smtp: track_days and max_track_days are at least 1 (RFC 3885, 3.1)".into());
        }
        Ok(())
    }

    /// Seconds since 1970 until which a message that came at `now` can be tracked.
    pub fn expires(&self, timeout: Option<u32>, now: i64) -> i64 {
        self.lifetime().until(timeout, now)
    }

    /// How long messages can be tracked.
    pub fn lifetime(&self) -> Lifetime {
        Lifetime { days: self.track_days, most: self.max_track_days }
    }
}

/// How long marked messages can be tracked (RFC 3885, 3.1), days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Where the sender named no timeout.
    pub days: u32,
    /// At most, whatever the sender asked for.
    pub most: u32,
}

impl Default for Lifetime {
    fn default() -> Self {
        SmtpConfig::default().lifetime()
    }
}

impl Lifetime {
    /// Seconds since 1970 until which a message that came at `now` can be tracked; `timeout` is the sender's, seconds.
    pub fn until(&self, timeout: Option<u32>, now: i64) -> i64 {
        const DAY: i64 = 86_400;
        let most = i64::from(self.most.max(1)) * DAY;
        now + timeout.map_or(i64::from(self.days.max(1)) * DAY, i64::from).min(most)
    }
}

impl Listen {
    /// An MTA relays for the machines it trusts, and the gateway's is mostly one of them.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if !self.backend.starts_with(super::net::TLS) && (self.verify_backend.is_some() || self.backend_ca.is_some()) {
            return Err(format!("smtp: {}: verify_backend and backend_ca go with backend = \"{}...\"", self.listen, super::net::TLS));
        }
        if self.client.is_some() || self.listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(format!(
            "smtp: {} is open to others: say in [[smtp.listen]] how the MTA is told who they are (client = \"proxy-v1\", \"proxy-v2\", \"xclient\"); \
             without that it takes all of them for this machine, for which it may relay. client = \"none\" if you mean it",
            self.listen
        ))
    }
}

/// `LISTEN=BACKEND` of `--smtp`.
impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (listen, backend) = text.split_once('=').ok_or("LISTEN=BACKEND, both address:port")?;
        let listen = listen.parse().map_err(|e| format!("{listen}: {e}"))?;
        Ok(Listen {
            listen,
            backend: backend.into(),
            verify_backend: None,
            backend_ca: None,
            protocol: Protocol::default(),
            tls: None,
            client: None,
            host: None,
            mta: postfix(),
            instance: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3885, 3.1: a default of 8 to 10 days, an upper limit of at least one day.
    #[test]
    fn how_long_a_message_can_be_tracked() {
        const DAY: i64 = 86_400;
        let config = SmtpConfig::default();
        assert_eq!(config.expires(None, 1_000), 1_000 + 10 * DAY);
        assert_eq!(config.expires(Some(5), 1_000), 1_005);
        assert_eq!(config.expires(Some(999_999_999), 0), 30 * DAY);
        let short = SmtpConfig { track_days: 9, max_track_days: 1, ..SmtpConfig::default() };
        assert_eq!((short.expires(None, 0), short.expires(Some(2 * 86_400), 0)), (DAY, DAY));
        assert!(SmtpConfig { max_track_days: 0, ..SmtpConfig::default() }.check().is_err());
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let read = |text: &str| toml::from_str::<SmtpConfig>(text);
        let listen = "[[listen]]\nlisten = \"127.0.0.1:25\"\nbackend = \"127.0.0.1:10025\"\n";
        read(listen).unwrap().check().unwrap();
        assert!(read(&format!("{listen}tls = \"implicit\"\n")).unwrap().check().unwrap_err().contains("127.0.0.1:25"));
        assert!(read("certificate = \"c.pem\"").unwrap().check().is_err());
        assert!(read(&format!("{listen}verify_backend = false\n")).unwrap().check().unwrap_err().contains("tls://"));
        read(&format!("{listen}verify_backend = false\n").replace("backend = \"", "backend = \"tls://")).unwrap().check().unwrap();
        let open = listen.replace("127.0.0.1:25\"", "0.0.0.0:25\"");
        assert!(read(&open).unwrap().check().unwrap_err().contains("0.0.0.0:25"));
        read(&format!("{open}client = \"none\"\n")).unwrap().check().unwrap();
        for wrong in ["no_such = 1", "[[listen]]\nlisten = \"x\"", "[out]\nroutes = 5"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let named: Listen = "127.0.0.1:0=/run/lmtp.sock".parse().unwrap();
        assert_eq!((named.backend.as_str(), named.mta.as_str()), ("/run/lmtp.sock", "postfix"));
        assert!("25=10025".parse::<Listen>().is_err() && "127.0.0.1:25".parse::<Listen>().is_err());
    }
}
