//! From a host's name to its tracking servers (RFC 3887, 2; RFC 2782).

use super::uri::PORT;
use crate::dns::{random_below, resolver};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// One place to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name that its certificate must bear: the host asked for, not the SRV target, which only the DNS vouches for.
    pub name: String,
    /// Address and port.
    pub address: SocketAddr,
    /// Whether the operator named the address, and not the DNS.
    pub listed: bool,
}

/// Why a host has no tracking server.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The DNS says so.
    #[error("{0} offers no message tracking (its SRV record says so)")]
    Refused(String),
    /// There is no such name, or it has no address.
    #[error("{0}: no address found")]
    NoAddress(String),
    /// The DNS could not be asked.
    #[error("{host}: {what}")]
    Dns {
        /// Host.
        host: String,
        /// What the resolver said.
        what: String,
    },
}

/// Names and addresses: those that the operator listed, else the DNS.
pub struct Names {
    fixed: BTreeMap<String, SocketAddr>,
    dns: Option<TokioResolver>,
}

/// Most addresses that are tried.
const MOST: usize = 16;
/// Most SRV targets that are looked at.
const MOST_SRV: usize = 8;

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among equals.
    pub weight: u16,
    /// Port.
    pub port: u16,
    /// Host.
    pub target: String,
}

impl Names {
    /// Listed names only.
    pub fn listed(fixed: &BTreeMap<String, SocketAddr>) -> Self {
        Names { fixed: fixed.iter().map(|(n, a)| (n.to_ascii_lowercase(), *a)).collect(), dns: None }
    }

    /// Listed names, then the DNS, by these name servers; with none, by the system's. Call it within a tokio runtime.
    pub fn by_dns(fixed: &BTreeMap<String, SocketAddr>, name_servers: &[SocketAddr]) -> Self {
        Names { dns: resolver(name_servers).ok(), ..Names::listed(fixed) }
    }

    /// Where to try, in order. With a port the host's addresses are meant; else SRV `_mtqp._tcp`, then, if there is no
    /// such record, the host's addresses and port 1038.
    ///
    /// # Errors
    /// [`NamesError`]
    pub async fn servers(&self, host: &str, port: Option<u16>) -> Result<Vec<Target>, NamesError> {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let name = || host.clone();
        if let Some(address) = self.fixed.get(&host) {
            return Ok(vec![Target { name: name(), address: *address, listed: true }]);
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![Target { name: name(), address: SocketAddr::new(ip, port.unwrap_or(PORT)), listed: false }]);
        }
        if host == "localhost" {
            let at = |ip: [u8; 4]| SocketAddr::from((ip, port.unwrap_or(PORT)));
            return Ok(vec![Target { name: name(), address: at([127, 0, 0, 1]), listed: false }]);
        }
        let srv = if port.is_none() { self.srv(&host).await? } else { vec![] };
        let mut found = Vec::new();
        for s in srv.iter().take(MOST_SRV) {
            let addresses = self.addresses(&s.target).await.unwrap_or_default();
            found.extend(addresses.into_iter().map(|ip| Target { name: name(), address: SocketAddr::new(ip, s.port), listed: false }));
        }
        if srv.is_empty() {
            let port = port.unwrap_or(PORT);
            let addresses = self.addresses(&host).await?;
            found.extend(addresses.into_iter().map(|ip| Target { name: name(), address: SocketAddr::new(ip, port), listed: false }));
        }
        found.truncate(MOST);
        if found.is_empty() { Err(NamesError::NoAddress(host)) } else { Ok(found) }
    }

    fn dns(&self, host: &str) -> Result<&TokioResolver, NamesError> {
        self.dns.as_ref().ok_or_else(|| NamesError::Dns { host: host.into(), what: "no resolver is configured on this machine".into() })
    }

    async fn srv(&self, host: &str) -> Result<Vec<Srv>, NamesError> {
        let lookup = match self.dns(host)?.srv_lookup(format!("_mtqp._tcp.{host}.")).await {
            Ok(l) => l,
            Err(e) if e.is_no_records_found() => return Ok(vec![]),
            Err(e) => return Err(NamesError::Dns { host: host.into(), what: e.to_string() }),
        };
        let of = |r: &RData| match r {
            RData::SRV(s) => Some(Srv { priority: s.priority, weight: s.weight, port: s.port, target: s.target.to_ascii() }),
            _ => None,
        };
        let all: Vec<Srv> = lookup.answers().iter().filter_map(|r| of(&r.data)).collect();
        // A single target "." says that there is decidedly no such service (RFC 2782).
        if all.len() == 1 && all.first().is_some_and(|s| s.target == ".") {
            return Err(NamesError::Refused(host.into()));
        }
        Ok(ordered(all, &mut random_below))
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NamesError> {
        match self.dns(host)?.lookup_ip(format!("{}.", host.trim_end_matches('.'))).await {
            Ok(found) => Ok(found.iter().take(MOST).collect()),
            Err(e) if e.is_no_records_found() => Err(NamesError::NoAddress(host.into())),
            Err(e) => Err(NamesError::Dns { host: host.into(), what: e.to_string() }),
        }
    }
}

/// The order of RFC 2782: by priority, and among equals by chance, weighed. `below` gives a number from 0 to its argument, exclusive.
pub fn ordered(mut all: Vec<Srv>, below: &mut dyn FnMut(u32) -> u32) -> Vec<Srv> {
    all.sort_by_key(|s| (s.priority, s.weight));
    let mut out = Vec::with_capacity(all.len());
    while let Some(priority) = all.first().map(|s| s.priority) {
        let equals = all.iter().take_while(|s| s.priority == priority);
        let sum: u32 = equals.map(|s| u32::from(s.weight)).sum();
        let mut left = below(sum + 1);
        let mut chosen = 0;
        for (i, s) in all.iter().enumerate().take_while(|(_, s)| s.priority == priority) {
            chosen = i;
            if left <= u32::from(s.weight) {
                break;
            }
            left -= u32::from(s.weight);
        }
        out.push(all.remove(chosen));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 1038, target: target.into() }
    }

    #[test]
    fn rfc2782_lower_priority_first_and_weights_share() {
        let all = vec![srv(20, 0, "last"), srv(10, 0, "zero"), srv(10, 3, "three"), srv(10, 1, "one")];
        let names = |pick: u32| ordered(all.clone(), &mut |n| pick.min(n - 1)).into_iter().map(|s| s.target).collect::<Vec<_>>();
        assert_eq!(names(0), ["zero", "one", "three", "last"]);
        assert_eq!(names(1), ["one", "three", "zero", "last"]);
        assert_eq!(names(4), ["three", "one", "zero", "last"]);
    }

    #[tokio::test]
    async fn listed_names_and_addresses_need_no_dns() {
        let names = Names::listed(&[("B.test".to_string(), "127.0.0.2:10382".parse().unwrap())].into());
        let b = names.servers("b.TEST.", None).await.unwrap();
        assert_eq!((b[0].address.to_string().as_str(), b[0].listed), ("127.0.0.2:10382", true));
        let literal = names.servers("192.0.2.1", None).await.unwrap();
        assert_eq!((literal[0].address.to_string().as_str(), literal[0].listed), ("192.0.2.1:1038", false));
        assert_eq!(names.servers("2001:db8::1", Some(9)).await.unwrap()[0].address.to_string(), "[2001:db8::1]:9");
        assert!(matches!(names.servers("other.test", None).await, Err(NamesError::Dns { .. })));
    }
}
