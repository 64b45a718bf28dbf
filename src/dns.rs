//! Who is asked about names: the name servers that the config names (`[dns]`), else the system's.

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use std::net::SocketAddr;

/// A resolver that asks these name servers, over UDP and TCP; with none, the system's (`/etc/resolv.conf`). Call it within a tokio runtime.
///
/// # Errors
/// One sentence: the system's servers cannot be told.
pub fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let builder = match servers {
        [] => TokioResolver::builder_tokio(),
        named => {
            let all = named.iter().map(name_server).collect();
            Ok(TokioResolver::builder_with_config(ResolverConfig::from_name_servers(all), TokioRuntimeProvider::default()))
        }
    };
    builder.and_then(|b| b.build()).map_err(|e| e.to_string())
}

fn name_server(at: &SocketAddr) -> NameServerConfig {
    let over = |mut connection: ConnectionConfig| {
        connection.port = at.port();
        connection
    };
    NameServerConfig::new(at.ip(), true, vec![over(ConnectionConfig::udp()), over(ConnectionConfig::tcp())])
}

/// A number from 0 to `n`, exclusive, by chance: targets of one priority share the load (RFC 2782; RFC 5321, 5.1).
pub fn random_below(n: u32) -> u32 {
    getrandom::u32().map_or(0, |r| r % n.max(1))
}
