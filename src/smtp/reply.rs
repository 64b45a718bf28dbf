//! Replies of an SMTP server: read, bounded, and the answer to EHLO rewritten (RFC 5321, 4.2).

/// The most bytes of a reply's line; RFC 5321, 4.5.3.1.5 sets 512.
pub const MAX_LINE: usize = 4096;
/// Lines of a reply that are kept; of a longer one the last line stands for the rest.
pub const MAX_LINES: usize = 512;
/// Bytes of a reply that are kept, likewise; a last line may come on top.
pub const MAX_BYTES: usize = 64 << 10;

/// A reply, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits; those of the last line count.
    pub code: u16,
    /// As it came, each line with CR LF.
    pub raw: Vec<u8>,
}

impl Reply {
    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// The text of each line, behind the code.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let lines = self.raw.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        lines.filter(|l| !l.is_empty()).map(|l| l.get(4..).unwrap_or_default())
    }

    /// Its lines, codes and all, in one: what an MTA would log of it.
    pub fn in_one_line(&self) -> Vec<u8> {
        let lines: Vec<&[u8]> = self.raw.split(|b| *b == b'\n').map(|l| l.trim_ascii_end()).filter(|l| !l.is_empty()).collect();
        lines.join(b" ".as_slice())
    }
}

/// What came is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// No three digits, or no space or hyphen behind them.
    #[error("no SMTP reply")]
    Garbage,
    /// A line over [`MAX_LINE`].
    #[error("a reply's line of more than {MAX_LINE} bytes")]
    Long,
}

/// Puts replies together from bytes in pieces of any size.
#[derive(Debug, Default)]
pub struct ReplyReader {
    bytes: Vec<u8>,
    at: usize,
    raw: Vec<u8>,
    lines: usize,
}

impl ReplyReader {
    /// Takes bytes from the server.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that no reply was made of yet.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.at + self.raw.len()
    }

    /// The next whole reply.
    ///
    /// # Errors
    /// [`ReplyError`]: nothing that comes later can be trusted then.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if rest.len() > MAX_LINE { Err(ReplyError::Long) } else { Ok(None) };
            };
            if end > MAX_LINE {
                return Err(ReplyError::Long);
            }
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.at += end + 1;
            let (code, last) = head(line).ok_or(ReplyError::Garbage)?;
            self.lines += 1;
            if last || (self.lines < MAX_LINES && self.raw.len() < MAX_BYTES) {
                self.raw.extend_from_slice(line);
                self.raw.extend_from_slice(b"\r\n");
            }
            if last {
                self.lines = 0;
                return Ok(Some(Reply { code, raw: std::mem::take(&mut self.raw) }));
            }
        }
    }
}

/// The code of a reply's line, and whether it is the last one.
fn head(line: &[u8]) -> Option<(u16, bool)> {
    let digits = line.get(..3).filter(|d| d.iter().all(u8::is_ascii_digit))?;
    let code: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return None,
    };
    (200..600).contains(&code).then_some((code, last))
}

/// What a server said that it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offer {
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// MTRK (RFC 3885).
    pub mtrk: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// SIZE (RFC 1870).
    pub size: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// XCLIENT (Postfix).
    pub xclient: bool,
    /// Mechanisms of AUTH, in upper case.
    pub auth: Vec<String>,
}

fn keyword(line: &[u8]) -> String {
    let word = line.split(|b| matches!(b, b' ' | b'=' | b'\t')).next().unwrap_or_default();
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

impl Offer {
    /// Reads the answer to EHLO.
    pub fn of(reply: &Reply) -> Offer {
        let mut offer = Offer::default();
        if !reply.is_positive() {
            return offer;
        }
        for line in reply.lines().skip(1) {
            match keyword(line).as_str() {
                "DSN" => offer.dsn = true,
                "MTRK" => offer.mtrk = true,
                "CHUNKING" => offer.chunking = true,
                "STARTTLS" => offer.starttls = true,
                "SIZE" => offer.size = true,
                "8BITMIME" => offer.eight_bit = true,
                "SMTPUTF8" => offer.utf8 = true,
                "XCLIENT" => offer.xclient = true,
                "AUTH" => {
                    let words = String::from_utf8_lossy(line).to_ascii_uppercase();
                    offer.auth.extend(words.split([' ', '=']).skip(1).map(str::to_string));
                }
                _ => {}
            }
        }
        offer
    }
}

/// What the gateway says of itself in the answer to EHLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// MTRK.
    pub mtrk: bool,
    /// STARTTLS.
    pub starttls: bool,
    /// AUTH may be shown.
    pub auth: bool,
}

/// The backend's answer to EHLO as the client gets it: its keywords but those that the gateway itself stands for or that
/// it cannot pass on, and the gateway's own.
pub fn rewritten(reply: &Reply, own: Own) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = Vec::new();
    for (n, line) in reply.lines().enumerate() {
        let stays = match keyword(line).as_str() {
            _ if n == 0 => true,
            // The gateway's own, or trust that the backend has in the gateway only.
            "MTRK" | "STARTTLS" | "XCLIENT" | "XFORWARD" | "XEXCH50" | "TURN" | "ATRN" => false,
            "AUTH" => own.auth,
            _ => true,
        };
        if stays {
            lines.push(line);
        }
    }
    if own.starttls {
        lines.push(b"STARTTLS");
    }
    if own.mtrk {
        lines.push(b"MTRK");
    }
    let mut out = Vec::with_capacity(reply.raw.len() + 32);
    for (n, line) in lines.iter().enumerate() {
        let between = if n + 1 == lines.len() { ' ' } else { '-' };
        out.extend_from_slice(format!("{}{between}", reply.code).as_bytes());
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    out
}
