//! The `mtqp://` URL of RFC 3887, 9.

use super::command::{Claim, Secret, bare};
use std::fmt;

/// The port of MTQP (3887, 10).
pub const PORT: u16 = 1038;

/// `mtqp://host[:port]/track/unique-envid/mtrk-secret`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// Server: a name or an address, IPv6 without its brackets.
    pub host: String,
    /// Port, where the URL names one.
    pub port: Option<u16>,
    /// What is to be asked.
    pub claim: Claim,
}

/// Why a text is no MTQP URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no MTQP URL: {why}; it looks like mtqp://host/track/envelope-id/secret")]
pub struct UriError {
    /// The text, cut, and without what may be its secret.
    text: String,
    why: &'static str,
}

impl std::str::FromStr for Uri {
    type Err = UriError;

    /// The scheme and `/track/` have no case, envelope id and secret have (9.3); `%HH` stands for any octet (9.4).
    fn from_str(text: &str) -> Result<Self, UriError> {
        parse(text.trim()).map_err(|why| UriError { text: text.chars().take_while(|c| *c != '/').take(40).collect(), why })
    }
}

fn parse(text: &str) -> Result<Uri, &'static str> {
    let is_mtqp = text.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("mtqp://"));
    let rest = text.get(7..).filter(|_| is_mtqp).ok_or("the scheme is not mtqp")?;
    let (authority, path) = rest.split_once('/').ok_or("no path")?;
    let (host, port) = authority_of(authority)?;
    let mut segments = path.split('/');
    if !segments.next().is_some_and(|s| s.eq_ignore_ascii_case("track")) {
        return Err("the path does not begin with /track/");
    }
    let (Some(id), Some(secret), None) = (segments.next(), segments.next(), segments.next()) else {
        return Err("behind /track/ stand an envelope id and a secret");
    };
    let id = decoded(id).ok_or("a % without two hex digits, or what it stands for cannot be sent")?;
    let secret = decoded(secret).ok_or("a % without two hex digits, or what it stands for cannot be sent")?;
    let secret = Secret::from_base64(&secret).ok_or("the secret is no base64")?;
    let envelope_id = bare(&id).to_string();
    // Both must fit in a command line: `TRACK `, a space between them.
    let fits = envelope_id.len() + secret.to_base64().len() + 7 <= super::command::MAX_LINE;
    if envelope_id.is_empty() || !fits {
        return Err("the envelope id is empty or too long");
    }
    Ok(Uri { host, port, claim: Claim { envelope_id, secret } })
}

fn authority_of(text: &str) -> Result<(String, Option<u16>), &'static str> {
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
        Some((host, rest)) => {
            host.parse::<std::net::Ipv6Addr>().map_err(|_| "the brackets hold no IPv6 address")?;
            (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some(rest) }))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let named = !host.is_empty() && host.len() <= 253 && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    if !named {
        return Err("no host");
    }
    let port = match port {
        None | Some("") => None,
        Some(p) if p.bytes().all(|b| b.is_ascii_digit()) => Some(p.parse().ok().filter(|p| *p > 0).ok_or("no such port")?),
        Some(_) => return Err("no such port"),
    };
    Ok((host.to_ascii_lowercase(), port))
}

/// Undoes `%HH`; what comes out must be printable ASCII without spaces, as a command's parameter is.
fn decoded(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let b = match b {
            b'%' => {
                let digit = |b: Option<u8>| (b? as char).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            b => b,
        };
        if !b.is_ascii_graphic() {
            return None;
        }
        out.push(b as char);
    }
    Some(out)
}

/// `/`, `?` and `%` must be escaped (9.4); so are `#` and what no URL may hold.
fn escaped(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for b in text.bytes() {
        match b {
            b'/' | b'?' | b'%' | b'#' | b'<' | b'>' | b'"' | b'[' | b']' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                write!(f, "%{b:02X}")?
            }
            b'!'..=b'~' => write!(f, "{}", b as char)?,
            _ => write!(f, "%{b:02X}")?,
        }
    }
    Ok(())
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("mtqp://")?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?
        } else {
            f.write_str(&self.host)?
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str("/track/")?;
        escaped(&self.claim.envelope_id, f)?;
        f.write_str("/")?;
        escaped(&self.claim.secret.to_base64(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn rfc3887_9_3_both_forms_are_read() {
        let plain = uri("mtqp://mail.example.com/track/12345@example.com/YWJjZGVmZ2gK");
        assert_eq!((plain.host.as_str(), plain.port), ("mail.example.com", None));
        assert_eq!(plain.claim.envelope_id, "12345@example.com");
        assert_eq!(uri("mtqp://h.test:2038/track/a@b/YWJj").port, Some(2038));
        assert_eq!(uri("mtqp://[2001:db8::1]:2038/track/a@b/YWJj").host, "2001:db8::1");
    }

    #[test]
    fn rfc3887_9_3_track_has_no_case_but_id_and_secret_have() {
        let u = uri("MTQP://H.test/TRACK/Ab@C/YWJj");
        assert_eq!((u.claim.envelope_id.as_str(), u.claim.secret.to_base64().as_str()), ("Ab@C", "YWJj"));
        assert_ne!(uri("mtqp://h.test/track/a@b/ywJJ").claim, uri("mtqp://h.test/track/a@b/YWJj").claim);
    }

    #[test]
    fn rfc3887_9_4_slash_question_mark_and_percent_are_escaped() {
        let claim = Claim { envelope_id: "a/b?c%d@e".into(), secret: Secret::new(vec![0xff; 16]) };
        let text = Uri { host: "h.test".into(), port: None, claim: claim.clone() }.to_string();
        assert_eq!(text, "mtqp://h.test/track/a%2Fb%3Fc%25d@e/%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2F%2Fw==");
        assert_eq!(uri(&text).claim, claim);
    }

    #[test]
    fn what_is_no_url_is_refused_and_its_secret_not_repeated() {
        for bad in [
            "",
            "http://h/track/a/YWJj",
            "mtqp:/h/track/a/YWJj",
            "mtqp:///track/a@b/YWJj",
            "mtqp://h/trace/a@b/YWJj",
            "mtqp://h/track/a@b",
            "mtqp://h/track/a@b/YWJj/x",
            "mtqp://h/track/a%0d%0aQUIT/YWJj",
            "mtqp://h/track/a b/YWJj",
            "mtqp://h/track/a%4/YWJj",
            "mtqp://h:0/track/a@b/YWJj",
            "mtqp://h:99999/track/a@b/YWJj",
            "mtqp://[x]/track/a@b/YWJj",
            "mtqp://h/track/a@b/Y*Jj",
            "mtqp://h/track//YWJj",
            "mtqp://é/track/a@b/YWJj",
        ] {
            let e = bad.parse::<Uri>().expect_err(bad);
            assert!(!e.to_string().contains("YWJj"), "{e}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(id in "[!-;=-~]{1,90}", secret in proptest::collection::vec(any::<u8>(), 1..64), port in proptest::option::of(1u16..)) {
            let u = Uri { host: "mx.example.org".into(), port, claim: Claim { envelope_id: bare(&id).to_string(), secret: Secret::new(secret) } };
            prop_assert_eq!(u.to_string().parse::<Uri>(), Ok(u));
        }

        #[test]
        fn any_text_is_a_url_or_an_error(text in ".{0,200}") {
            let _ = text.parse::<Uri>();
            let _ = format!("mtqp://{text}").parse::<Uri>();
        }
    }
}
