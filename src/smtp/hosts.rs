//! Next hosts of a mail domain: from DNS (RFC 5321, 5.1), or as the config says.

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use std::collections::BTreeMap;
use std::future::Future;
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
    /// DNS did not answer.
    #[error("DNS does not answer for {0}: {1}")]
    Later(String, String),
}

/// Hosts, best first, as `host:port`.
pub type Found<'a> = Pin<Box<dyn Future<Output = Result<Vec<String>, NoHosts>> + Send + 'a>>;

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

impl Dns {
    /// With the system's name servers.
    ///
    /// # Errors
    /// One sentence.
    pub fn of_the_system() -> Result<Self, String> {
        let resolver = TokioResolver::builder_tokio().and_then(|b| b.build());
        resolver.map(Dns).map_err(|e| e.to_string())
    }

    async fn exchangers(&self, domain: &str) -> Result<Vec<String>, NoHosts> {
        // An address in brackets is its own host.
        if let Some(ip) = domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
            let ip = ip.trim_start_matches("IPv6:");
            return Ok(vec![if ip.contains(':') { format!("[{ip}]:25") } else { format!("{ip}:25") }]);
        }
        let answer = match self.0.mx_lookup(format!("{}.", domain.trim_end_matches('.'))).await {
            Ok(answer) => answer,
            Err(e) if e.is_nx_domain() => return Err(NoHosts::NoDomain(domain.into())),
            Err(e) if e.is_no_records_found() => return Ok(vec![format!("{domain}:25")]),
            Err(e) => return Err(NoHosts::Later(domain.into(), e.to_string())),
        };
        let mut found: Vec<(u16, String)> = Vec::new();
        for record in answer.answers() {
            if let RData::MX(mx) = &record.data {
                found.push((mx.preference, mx.exchange.to_utf8().trim_end_matches('.').to_string()));
            }
        }
        found.sort();
        match found.first() {
            None => Ok(vec![format!("{domain}:25")]),
            Some((_, name)) if name.is_empty() => Err(NoHosts::NoMail(domain.into())),
            Some(_) => Ok(found.into_iter().map(|(_, name)| format!("{name}:25")).collect()),
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
                Box::pin(async move { Ok(vec![host]) })
            }
            (None, Some(dns)) => dns.of(domain),
            (None, None) => Box::pin(async move { Err(NoHosts::NoDomain(domain.into())) }),
        }
    }
}
