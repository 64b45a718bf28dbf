//! Commands of RFC 3887: one line in, one command out.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, STANDARD_NO_PAD};
use sha1::{Digest as _, Sha1};

/// The most characters of a line before its CR LF (3887, 2.2 and 2.3).
pub const MAX_LINE: usize = 998;

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `TRACK` (3887, 4).
    Track(Claim),
    /// `COMMENT` (5): its text is ignored.
    Comment,
    /// `STARTTLS` (6) with the host name that the client believes it speaks to.
    StartTls(String),
    /// `QUIT` (7).
    Quit,
}

/// What a client claims to know of a message: its envelope id and the secret that opens it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Claim {
    /// unique-envid as sent (xtext), angle brackets taken off: 3887's examples have them, its grammar has not.
    pub envelope_id: String,
    /// Secret A.
    pub secret: Secret,
}

/// Secret A of RFC 3885, 3.1, decoded. Never shown in logs.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Base64 as others write it: with or without padding.
const TOLERANT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true),
);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Secret(bytes)
    }

    /// Reads `mtrk-secret`: base64 with or without padding; `None` if it is none, or empty.
    pub fn from_base64(text: &str) -> Option<Self> {
        TOLERANT.decode(text).ok().filter(|bytes| !bytes.is_empty()).map(Secret)
    }

    /// Base64 with padding, as `TRACK` and the URL have it.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.0)
    }

    /// Certifier B = SHA-1(A), base64 without padding: 27 characters (RFC 3885, 3.1).
    pub fn certifier(&self) -> String {
        STANDARD_NO_PAD.encode(Sha1::digest(&self.0))
    }
}

/// A certifier in the form it is kept in: base64 without padding, 27 characters. `None` if it is no SHA-1 value.
pub fn certifier(text: &str) -> Option<String> {
    TOLERANT.decode(text).ok().filter(|b| b.len() == 20).map(|b| STANDARD_NO_PAD.encode(b))
}

/// Why a line is no command. All of them are `-BAD` (3887, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Bytes that are not printable ASCII, space or tab.
    #[error("only printable ASCII is understood")]
    NotAscii,
    /// The first word is no command.
    #[error("no such command")]
    Unknown,
    /// A browser or a probe: no dialogue with it.
    #[error("this is no web server")]
    Http,
    /// The parameters are not what the command takes.
    #[error("use: {0}")]
    Syntax(&'static str),
    /// STARTTLS without a fully qualified domain name (6).
    #[error("STARTTLS takes the fully qualified domain name of the server")]
    BadName,
}

const HTTP: &[&str] = &["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH", "TRACE", "PRI"];

/// Reads a command line, without its CR LF.
///
/// Keywords have no case; parameters are separated by runs of spaces and tabs (2.2). White space at the end is borne.
///
/// # Errors
/// [`CommandError`]; every one of them is answered with `-BAD`.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let printable = |b: &u8| matches!(b, b' '..=b'~' | b'\t');
    let text = std::str::from_utf8(line).ok().filter(|_| line.iter().all(printable)).ok_or(CommandError::NotAscii)?;
    let (keyword, rest) = text.split_at_checked(text.find([' ', '\t']).unwrap_or(text.len())).ok_or(CommandError::Unknown)?;
    let mut words = rest.split([' ', '\t']).filter(|w| !w.is_empty());
    match keyword.to_ascii_uppercase().as_str() {
        "TRACK" => {
            let usage = CommandError::Syntax("TRACK unique-envid mtrk-secret");
            let (Some(id), Some(secret), None) = (words.next(), words.next(), words.next()) else { return Err(usage) };
            let envelope_id = bare(id);
            let secret = Secret::from_base64(secret).ok_or(CommandError::Syntax("TRACK unique-envid mtrk-secret, the secret in base64"))?;
            if envelope_id.is_empty() {
                return Err(usage);
            }
            Ok(Command::Track(Claim { envelope_id: envelope_id.to_string(), secret }))
        }
        "COMMENT" => Ok(Command::Comment),
        "STARTTLS" => match (words.next(), words.next()) {
            (Some(name), None) if is_domain(name) => Ok(Command::StartTls(name.to_ascii_lowercase())),
            _ => Err(CommandError::BadName),
        },
        "QUIT" if words.next().is_none() => Ok(Command::Quit),
        "QUIT" => Err(CommandError::Syntax("QUIT")),
        verb if HTTP.contains(&verb) => Err(CommandError::Http),
        _ => Err(CommandError::Unknown),
    }
}

/// An envelope id without the angle brackets that 3887's examples put around it.
pub fn bare(id: &str) -> &str {
    id.strip_prefix('<').and_then(|i| i.strip_suffix('>')).unwrap_or(id)
}

/// `domain = (sub-domain 1*("." sub-domain))`: two labels or more, of letters, digits and inner hyphens.
pub fn is_domain(name: &str) -> bool {
    let label = |l: &str| {
        let fits = (1..=63).contains(&l.len()) && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits && !l.starts_with('-') && !l.ends_with('-')
    };
    name.len() <= 253 && name.contains('.') && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn track(line: &str) -> (String, String) {
        match parse(line.as_bytes()) {
            Ok(Command::Track(c)) => (c.envelope_id, c.secret.to_base64()),
            other => panic!("{line:?}: {other:?}"),
        }
    }

    #[test]
    fn rfc3887_2_2_keywords_have_no_case_and_white_space_is_any_run() {
        let want = ("12345-20010101@example.com".to_string(), "YWJjZGVmZ2gK".to_string());
        assert_eq!(track("TRACK 12345-20010101@example.com YWJjZGVmZ2gK"), want);
        assert_eq!(track("track \t 12345-20010101@example.com\t\tYWJjZGVmZ2gK  "), want);
        assert_eq!(parse(b"quit"), Ok(Command::Quit));
        assert_eq!(parse(b"Comment\tanything"), Ok(Command::Comment));
        assert_eq!(parse(b"COMMENT"), Ok(Command::Comment));
    }

    #[test]
    fn rfc3887_4_the_envelope_id_keeps_its_case_and_loses_its_brackets() {
        assert_eq!(track("TRACK <12345-20010101@Example.com> YWJjZGVmZ2gK").0, "12345-20010101@Example.com");
        assert_eq!(track("TRACK <tracking-id> YWJjZGVmZ2gK").0, "tracking-id");
    }

    #[test]
    fn rfc3887_2_3_what_is_no_command_is_told_apart() {
        use CommandError::*;
        for (line, want) in [
            (&b""[..], Unknown),
            (b" QUIT", Unknown),
            (b"FOO", Unknown),
            (b"COMMENTS x", Unknown),
            (b"TRACKX a@b YWJj", Unknown),
            (b"QUIT now", Syntax("QUIT")),
            (b"TRACK", Syntax("TRACK unique-envid mtrk-secret")),
            (b"TRACK a@b", Syntax("TRACK unique-envid mtrk-secret")),
            (b"TRACK a@b YWJj x", Syntax("TRACK unique-envid mtrk-secret")),
            (b"TRACK <> YWJj", Syntax("TRACK unique-envid mtrk-secret")),
            (b"TRACK a@b Y*Jj", Syntax("TRACK unique-envid mtrk-secret, the secret in base64")),
            (b"STARTTLS", BadName),
            (b"STARTTLS localhost", BadName),
            (b"STARTTLS a.b c.d", BadName),
            (b"STARTTLS -a.b", BadName),
            (b"GET / HTTP/1.1", Http),
            (b"COMMENT \x00", NotAscii),
            (b"COMMENT \xc3\xa9", NotAscii),
            (b"QUIT\r", NotAscii),
        ] {
            assert_eq!(parse(line), Err(want), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn rfc3885_3_1_the_certifier_is_the_hash_of_the_decoded_secret() {
        // The value that RFC 3887, 4.1 prints is neither the hash of "abcdefgh" nor of "abcdefgh\n"; these are sha1sum's.
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let b = Secret::from_base64("YWJjZGVmZ2gK").unwrap().certifier();
        assert_eq!(b.len(), 27);
        assert_eq!(hex(&STANDARD_NO_PAD.decode(&b).unwrap()), "e414af7161c9554089f4106d6f1797ef14a73666");
        assert_eq!(certifier(&format!("{b}=")).as_deref(), Some(b.as_str()));
        assert_eq!(certifier("abc"), None);
        assert_eq!(Secret::from_base64("YWJjZA"), Secret::from_base64("YWJjZA=="));
        assert!(format!("{:?}", Secret::from_base64("YWJjZA")).find("YWJj").is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_command_or_an_error(line in proptest::collection::vec(any::<u8>(), 0..1200)) {
            let _ = parse(&line);
        }
    }
}
