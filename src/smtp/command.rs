//! Lines that an SMTP or LMTP client sends, as far as the gateway has to know them.
//!
//! The gateway passes on what it does not know. It reads closely what changes how the bytes behind a command are to
//! be taken (DATA, BDAT, AUTH, STARTTLS) and the parameters of MAIL and RCPT (RFC 5321, 4.1.1; RFC 3461, 4; RFC 3885, 3).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};

/// The most bytes of a command before its CR LF: what RFC 5321, 4.5.3.1.4 sets, with all that extensions add (SIZE 26, AUTH 500,
/// ENVID 107, MTRK 40, ORCPT 507, SMTPUTF8 addresses ...), and room.
pub const MAX_LINE: usize = 4096;
/// The most bytes of a line within an AUTH exchange (RFC 4954, 4).
pub const MAX_AUTH_LINE: usize = 12_288;
/// The most characters of an ENVID (RFC 3461, 4.4).
pub const MAX_ENVID: usize = 100;

/// What a command is to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// EHLO, HELO, LHLO: the answer says what the server offers.
    Hello,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// BDAT (RFC 3030).
    Bdat,
    /// RSET.
    Rset,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth,
    /// QUIT.
    Quit,
    /// What only a trusted client may say (the backend trusts the gateway, not its clients), or what cannot be passed on.
    Forbidden,
    /// A browser or a probe.
    Http,
    /// Anything else: passed on as it is.
    Other,
}

/// Which command a line is; white space before it is borne, as MTAs do.
pub fn verb(line: &[u8]) -> Verb {
    let line = line.trim_ascii();
    let end = line.iter().position(|b| matches!(b, b' ' | b'\t')).unwrap_or(line.len());
    match line.get(..end).unwrap_or_default().to_ascii_uppercase().as_slice() {
        b"EHLO" | b"HELO" | b"LHLO" => Verb::Hello,
        b"MAIL" => Verb::Mail,
        b"RCPT" => Verb::Rcpt,
        b"DATA" => Verb::Data,
        b"BDAT" => Verb::Bdat,
        b"RSET" => Verb::Rset,
        b"STARTTLS" => Verb::StartTls,
        b"AUTH" => Verb::Auth,
        b"QUIT" => Verb::Quit,
        b"XCLIENT" | b"XFORWARD" | b"XEXCH50" | b"TURN" | b"ATRN" => Verb::Forbidden,
        b"GET" | b"POST" | b"PUT" | b"HEAD" | b"CONNECT" | b"OPTIONS" | b"DELETE" | b"PATCH" | b"PRI" => Verb::Http,
        _ => Verb::Other,
    }
}

/// The octets and whether they are the last of a `BDAT` command in the one form that nobody can read otherwise:
/// `BDAT 86[ LAST]`.
pub fn bdat(line: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(line.trim_ascii()).ok()?;
    let mut words = text.split(' ').skip(1);
    let size = words.next().filter(|w| !w.is_empty() && w.len() <= 18 && w.bytes().all(|b| b.is_ascii_digit()))?;
    let last = match words.next() {
        None => false,
        Some(w) if w.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    (words.next().is_none() && (size == "0" || !size.starts_with('0'))).then_some(())?;
    Some((size.parse().ok()?, last))
}

/// `MAIL FROM:<..>` or `RCPT TO:<..>`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// All before the parameters, as written.
    pub head: &'a [u8],
    /// The address, without angle brackets.
    pub address: &'a [u8],
    /// Parameters, as written.
    pub params: Vec<&'a [u8]>,
}

/// Takes a MAIL or RCPT command apart; `None` where the path is not one. Quoted local parts may hold anything.
pub fn envelope(line: &[u8]) -> Option<Envelope<'_>> {
    let colon = line.iter().position(|b| *b == b':')?;
    let mut words = line.get(..colon)?.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty());
    let (verb, preposition) = (words.next()?, words.next()?);
    let fits = |v: &str, p: &str| verb.eq_ignore_ascii_case(v.as_bytes()) && preposition.eq_ignore_ascii_case(p.as_bytes());
    if words.next().is_some() || !(fits("MAIL", "FROM") || fits("RCPT", "TO")) {
        return None;
    }
    let behind = line.get(colon + 1..)?;
    let start = colon + 1 + behind.iter().position(|b| !matches!(b, b' ' | b'\t'))?;
    let length = path_length(line.get(start..)?)?;
    let path = line.get(start..start + length)?;
    let address = path.strip_prefix(b"<").and_then(|p| p.strip_suffix(b">")).unwrap_or(path);
    let rest = line.get(start + length..)?;
    if rest.first().is_some_and(|b| !matches!(b, b' ' | b'\t')) {
        return None;
    }
    let params = rest.split(|b| matches!(b, b' ' | b'\t')).filter(|w| !w.is_empty()).collect();
    Some(Envelope { head: line.get(..start + length)?, address, params })
}

/// Bytes of the path at the front: `<..>`, or a bare word; quotes and backslashes are heeded in both.
fn path_length(text: &[u8]) -> Option<usize> {
    let bracketed = text.first() == Some(&b'<');
    let (mut quoted, mut escaped) = (false, false);
    for (n, b) in text.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if bracketed && !quoted => return Some(n + 1),
            b' ' | b'\t' if !bracketed && !quoted => return Some(n),
            _ => {}
        }
    }
    (!bracketed && !quoted && !escaped).then_some(text.len())
}

/// The value of a parameter, if the word is `KEYWORD=value`; an empty one where no `=` stands.
pub fn value<'a>(param: &'a [u8], keyword: &str) -> Option<&'a [u8]> {
    let (head, rest) = param.split_at_checked(keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword.as_bytes()) {
        return None;
    }
    match rest.split_first() {
        None => Some(b""),
        Some((b'=', value)) => Some(value),
        Some(_) => None,
    }
}

/// A message's mark: what its sender wants to track it by (RFC 3885, 3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// unique-envid as sent (xtext), `local@fqhn`, at most [`MAX_ENVID`] characters.
    pub envelope_id: String,
    /// SHA-1 of the secret: base64 without padding, 27 characters.
    pub certifier: String,
    /// Seconds to track for, where the client named them; at least 1.
    pub timeout: Option<u32>,
}

/// Why a mark is refused, as the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// RFC 3885, 3: one parameter.
    #[error("MTRK may be given once")]
    Twice,
    /// 3.1: no `=`, or nothing behind it.
    #[error("MTRK takes certifier[:timeout]")]
    Empty,
    /// 3.1: `mtrk-certifier` is the base64 of a SHA-1 value.
    #[error("the certifier of MTRK is 27 characters of base64, the SHA-1 of a secret")]
    Certifier,
    /// 3.1: `mtrk-timeout = 1*9DIGIT`, of which 0 asks for nothing.
    #[error("the timeout of MTRK is 1 to 9 digits, seconds, and not 0")]
    Timeout,
    /// 3.2: ENVID MUST be included.
    #[error("MTRK needs ENVID beside it")]
    NoEnvid,
    /// RFC 3461, 4.5.
    #[error("ENVID may be given once")]
    TwoEnvids,
    /// RFC 3461, 4.4.
    #[error("ENVID is at most 100 characters")]
    LongEnvid,
    /// RFC 3461, 4: xtext, and what it stands for is printable ASCII.
    #[error("ENVID is not xtext of printable ASCII")]
    Xtext,
    /// 3.2: `local-envid "@" fqhn`.
    #[error("with MTRK, ENVID has the form local@host.name")]
    NotUnique,
}

/// Base64 as others write it: with or without padding.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

impl Mark {
    /// The mark that the parameters of a MAIL command bear, if they bear one.
    ///
    /// # Errors
    /// [`MarkError`]: to be answered with 501 5.5.4.
    pub fn of(params: &[&[u8]]) -> Result<Option<Mark>, MarkError> {
        let mut marks = params.iter().filter_map(|p| value(p, "MTRK"));
        let Some(mark) = marks.next() else { return Ok(None) };
        if marks.next().is_some() {
            return Err(MarkError::Twice);
        }
        let mut envids = params.iter().filter_map(|p| value(p, "ENVID"));
        let envid = envids.next().ok_or(MarkError::NoEnvid)?;
        if envids.next().is_some() {
            return Err(MarkError::TwoEnvids);
        }
        let (certifier, timeout) = certifier_and_timeout(mark)?;
        Ok(Some(Mark { envelope_id: unique_envid(envid)?, certifier, timeout }))
    }

    /// The parameter for the next server, `elapsed` seconds after the message came; `None` when its time is used up
    /// (RFC 3885, 3.1).
    pub fn to_param(&self, elapsed: u64) -> Option<String> {
        let Some(timeout) = self.timeout else { return Some(format!("MTRK={}", self.certifier)) };
        let left = u64::from(timeout).checked_sub(elapsed).filter(|left| *left > 0)?;
        Some(format!("MTRK={}:{left}", self.certifier))
    }
}

fn certifier_and_timeout(mark: &[u8]) -> Result<(String, Option<u32>), MarkError> {
    let text = std::str::from_utf8(mark).map_err(|_| MarkError::Certifier)?;
    let (certifier, timeout) = text.split_once(':').map_or((text, None), |(c, t)| (c, Some(t)));
    if text.is_empty() {
        return Err(MarkError::Empty);
    }
    let bytes = TOLERANT.decode(certifier).ok().filter(|b| b.len() == 20).ok_or(MarkError::Certifier)?;
    let seconds = |t: &str| {
        let fits = (1..=9).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
        t.parse::<u32>().ok().filter(|n| fits && *n > 0).ok_or(MarkError::Timeout)
    };
    Ok((STANDARD_NO_PAD.encode(bytes), timeout.map(seconds).transpose()?))
}

fn unique_envid(envid: &[u8]) -> Result<String, MarkError> {
    if envid.len() > MAX_ENVID {
        return Err(MarkError::LongEnvid);
    }
    let plain = from_xtext(envid).filter(|p| p.iter().all(|b| matches!(b, b' '..=b'~' | b'\t'))).ok_or(MarkError::Xtext)?;
    let text = String::from_utf8_lossy(envid).into_owned();
    match text.rsplit_once('@') {
        Some((local, host)) if !local.is_empty() && !host.is_empty() && !plain.is_empty() => Ok(text),
        _ => Err(MarkError::NotUnique),
    }
}

/// What xtext stands for (RFC 3461, 4); `None` if it is none.
pub fn from_xtext(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    let digit = |b: u8| if b.is_ascii_digit() || (b'A'..=b'F').contains(&b) { (b as char).to_digit(16) } else { None };
    while let Some(b) = bytes.next() {
        match b {
            b'+' => {
                let (high, low) = (bytes.next().and_then(digit)?, bytes.next().and_then(digit)?);
                out.push((high * 16 + low) as u8);
            }
            b'=' => return None,
            b'!'..=b'~' => out.push(b),
            _ => return None,
        }
    }
    Some(out)
}

/// Writes xtext (RFC 3461, 4).
pub fn to_xtext(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for b in bytes {
        match b {
            b'+' | b'=' => out.push_str(&format!("+{b:02X}")),
            b'!'..=b'~' => out.push(char::from(*b)),
            _ => out.push_str(&format!("+{b:02X}")),
        }
    }
    out
}

/// The line without its MTRK parameter, and with another one in its place if there is one.
pub fn remarked(e: &Envelope, mark: Option<&str>) -> Vec<u8> {
    let mut line = e.head.to_vec();
    let others = e.params.iter().filter(|p| value(p, "MTRK").is_none()).copied();
    for param in others.chain(mark.map(str::as_bytes)) {
        line.push(b' ');
        line.extend_from_slice(param);
    }
    line
}
