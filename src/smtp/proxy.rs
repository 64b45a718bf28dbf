//! Who the client is, told to the backend: the PROXY protocol's header, and XCLIENT's attributes.

use super::config::ClientBy;
use std::net::{IpAddr, SocketAddr};

/// What the backend is sent before anything else.
pub fn header(by: ClientBy, client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    match by {
        ClientBy::ProxyV1 => v1(client, server),
        ClientBy::ProxyV2 => v2(client, server),
        ClientBy::None | ClientBy::Xclient => Vec::new(),
    }
}

/// Attributes of XCLIENT.
pub fn xclient(client: SocketAddr) -> String {
    match client.ip().to_canonical() {
        IpAddr::V4(ip) => format!("NAME=[UNAVAILABLE] ADDR={ip} PORT={}", client.port()),
        IpAddr::V6(ip) => format!("NAME=[UNAVAILABLE] ADDR=IPV6:{ip} PORT={}", client.port()),
    }
}

/// Both addresses in one family.
fn family(
    client: SocketAddr,
    server: SocketAddr,
) -> Result<(std::net::Ipv4Addr, std::net::Ipv4Addr), (std::net::Ipv6Addr, std::net::Ipv6Addr)> {
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    match (client.ip().to_canonical(), server.ip().to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(b)) => Ok((a, b)),
        (a, b) => Err((v6(a), v6(b))),
    }
}

fn v1(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let ports = format!("{} {}", client.port(), server.port());
    match family(client, server) {
        Ok((a, b)) => format!("PROXY TCP4 {a} {b} {ports}\r\n"),
        Err((a, b)) => format!("PROXY TCP6 {a} {b} {ports}\r\n"),
    }
    .into_bytes()
}

fn v2(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut out = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match family(client, server) {
        Ok((a, b)) => {
            out.extend_from_slice(&[0x11, 0, 12]);
            out.extend_from_slice(&a.octets());
            out.extend_from_slice(&b.octets());
        }
        Err((a, b)) => {
            out.extend_from_slice(&[0x21, 0, 36]);
            out.extend_from_slice(&a.octets());
            out.extend_from_slice(&b.octets());
        }
    }
    out.extend_from_slice(&client.port().to_be_bytes());
    out.extend_from_slice(&server.port().to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_are_those_of_the_proxy_protocol() {
        let at = |s: &str| s.parse::<SocketAddr>().unwrap();
        let v1 = |a, b| String::from_utf8(header(ClientBy::ProxyV1, at(a), at(b))).unwrap();
        assert_eq!(v1("192.0.2.7:4711", "192.0.2.1:25"), "PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n");
        assert_eq!(v1("[::ffff:192.0.2.7]:4711", "[::ffff:192.0.2.1]:25"), "PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n");
        assert_eq!(v1("[2001:db8::7]:4711", "[2001:db8::1]:25"), "PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n");
        let v2 = header(ClientBy::ProxyV2, at("192.0.2.7:4711"), at("192.0.2.1:25"));
        assert_eq!(v2, b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x00\x19");
        assert_eq!(header(ClientBy::ProxyV2, at("[2001:db8::7]:1"), at("[2001:db8::1]:2")).len(), 16 + 36);
        assert_eq!(xclient(at("[2001:db8::7]:4711")), "NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 PORT=4711");
    }
}
