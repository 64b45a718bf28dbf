//! Next hosts of a mail domain: from DNS (RFC 5321, 5.1), or as the config says.

use crate::dns::random_below;
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

/// Why there is no next host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHosts {
    /// The domain does not exist.
    #[error("the domain {0} does not exist")]
    NoDomain(String),
    /// The domain takes no mail (RFC 7505).
    #[error("the domain {0} takes no mail")]
    NoMail(String),
    /// No host of the domain has an address.
    #[error("no host of {0} has an address")]
    NoAddress(String),
    /// DNS did not answer.
    #[error("DNS does not answer for {0}: {1}")]
    Later(String, String),
}

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHost {
    /// What it is called: `host:port`.
    pub name: String,
    /// Where it is; where the config names the host, that is left to the system.
    pub at: Option<SocketAddr>,
}

impl NextHost {
    fn named(name: String) -> Self {
        NextHost { name, at: None }
    }
}

/// Places to try, best first.
pub type Found<'a> = Pin<Box<dyn Future<Output = Result<Vec<NextHost>, NoHosts>> + Send + 'a>>;

/// Where next hosts are looked up.
pub trait Hosts: Send + Sync {
    /// The next hosts of a domain.
    fn of<'a>(&'a self, domain: &'a str) -> Found<'a>;

    /// Whether the site's own config names them, so that their own word for their name is good.
    fn listed(&self, _domain: &str) -> bool {
        false
    }
}

/// By DNS.
pub struct Dns(TokioResolver);

/// The port of next hosts.
const PORT: u16 = 25;
/// Exchangers of a domain that are looked at.
const MAX_EXCHANGERS: usize = 8;

impl Dns {
    /// By these name servers; with none, by the system's. Call it within a tokio runtime.
    ///
    /// # Errors
    /// One sentence.
    pub fn by(name_servers: &[SocketAddr]) -> Result<Self, String> {
        crate::dns::resolver(name_servers).map(Dns)
    }

    async fn exchangers(&self, domain: &str) -> Result<Vec<NextHost>, NoHosts> {
        // An address in brackets is its own host.
        if let Some(ip) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
            let ip = ip.trim_start_matches("IPv6:");
            return Ok(vec![NextHost::named(if ip.contains(':') { format!("[{ip}]:{PORT}") } else { format!("{ip}:{PORT}") })]);
        }
        let domain = domain.trim_end_matches('.');
        let mut found: Vec<(u16, u32, String)> = Vec::new();
        match self.0.mx_lookup(format!("{domain}.")).await {
            Ok(answer) => {
                for record in answer.answers() {
                    if let RData::MX(mx) = &record.data {
                        let name = mx.exchange.to_ascii().trim_end_matches('.').to_lowercase();
                        found.push((mx.preference, random_below(u32::MAX), name));
                    }
                }
            }
            Err(e) if e.is_nx_domain() => return Err(NoHosts::NoDomain(domain.into())),
            Err(e) if e.is_no_records_found() => {}
            Err(e) => return Err(NoHosts::Later(domain.into(), e.to_string())),
        }
        // Those of one preference by chance (RFC 5321, 5.1).
        found.sort();
        match found.first() {
            None => found.push((0, 0, domain.to_string())),
            Some((_, _, name)) if name.is_empty() => return Err(NoHosts::NoMail(domain.into())),
            Some(_) => {}
        }
        self.places(domain, found.into_iter().map(|(_, _, name)| name)).await
    }

    /// Every address of every host, in order.
    async fn places(&self, domain: &str, hosts: impl Iterator<Item = String>) -> Result<Vec<NextHost>, NoHosts> {
        let mut places = Vec::new();
        let mut later = None;
        for host in hosts.filter(|h| !h.is_empty()).take(MAX_EXCHANGERS) {
            match self.0.lookup_ip(format!("{host}.")).await {
                Ok(ips) => {
                    let name = format!("{host}:{PORT}");
                    places.extend(ips.iter().map(|ip| NextHost { name: name.clone(), at: Some(SocketAddr::new(ip, PORT)) }));
                }
                Err(e) if e.is_no_records_found() => {}
                Err(e) => later = Some(e.to_string()),
            }
        }
        match (places.is_empty(), later) {
            (false, _) => Ok(places),
            (true, Some(why)) => Err(NoHosts::Later(domain.into(), why)),
            (true, None) => Err(NoHosts::NoAddress(domain.into())),
        }
    }
}

impl Hosts for Dns {
    fn of<'a>(&'a self, domain: &'a str) -> Found<'a> {
        Box::pin(self.exchangers(domain))
    }
}

/// As the config says, and by something else for what it does not name.
pub struct Routes {
    /// Domain in lower case, or `*`, to `host:port`.
    pub routes: BTreeMap<String, String>,
    /// For all others.
    pub other: Option<Dns>,
}

impl Routes {
    fn route(&self, domain: &str) -> Option<&String> {
        self.routes.get(&domain.to_lowercase()).or_else(|| self.routes.get("*"))
    }
}

impl Hosts for Routes {
    fn listed(&self, domain: &str) -> bool {
        self.route(domain).is_some()
    }

    fn of<'a>(&'a self, domain: &'a str) -> Found<'a> {
        match (self.route(domain), &self.other) {
            (Some(host), _) => {
                let host = host.clone();
                Box::pin(async move { Ok(vec![NextHost::named(host)]) })
            }
            (None, Some(dns)) => dns.of(domain),
            (None, None) => Box::pin(async move { Err(NoHosts::NoDomain(domain.into())) }),
        }
    }
}
