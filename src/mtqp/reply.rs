//! Responses of RFC 3887: written by the server, read by the client.

use super::command::MAX_LINE;

/// A status indicator (3887, 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indicator {
    /// `+OK`: success.
    Ok,
    /// `+OK+`: success, lines of data follow.
    OkMulti,
    /// `-TEMP`: temporary failure.
    Temp,
    /// `-ERR`: permanent failure.
    Err,
    /// `-BAD`: protocol error.
    Bad,
}

impl Indicator {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Indicator::Ok => "+OK",
            Indicator::OkMulti => "+OK+",
            Indicator::Temp => "-TEMP",
            Indicator::Err => "-ERR",
            Indicator::Bad => "-BAD",
        }
    }
}

/// A status line with CR LF: indicator, response information, text for a log.
pub fn status(indicator: Indicator, info: &[&str], text: &str) -> Vec<u8> {
    let mut line = indicator.as_str().to_string();
    for i in info {
        line.push('/');
        line.push_str(i);
    }
    if !text.is_empty() {
        line.push(' ');
        line.extend(text.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }));
    }
    line.truncate(MAX_LINE);
    line.push_str("\r\n");
    line.into_bytes()
}

/// A multi-line success response, dot-stuffed (3887, 2.3). `lines` have no line ends.
pub fn multi<S: AsRef<str>>(info: &[&str], text: &str, lines: &[S]) -> Vec<u8> {
    let mut out = status(Indicator::OkMulti, info, text);
    for line in lines {
        let line = line.as_ref();
        if line.starts_with('.') {
            out.push(b'.');
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// A response as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Status indicator.
    pub indicator: Indicator,
    /// Response information, in lower case, without slashes (`mtqp`, `noinfo`).
    pub info: Vec<String>,
    /// Text for a log.
    pub text: String,
    /// Lines of data with CR LF line ends, dot-stuffing undone; empty where none follow.
    pub data: Vec<u8>,
}

impl Reply {
    /// Whether the response information names a word.
    pub fn says(&self, word: &str) -> bool {
        self.info.iter().any(|i| i.eq_ignore_ascii_case(word))
    }

    /// Options of a greeting, continuation lines joined, identifier in lower case (3887, 3).
    pub fn options(&self) -> Vec<(String, String)> {
        let text = String::from_utf8_lossy(&self.data);
        let mut all: Vec<String> = Vec::new();
        for line in text.lines() {
            match all.last_mut() {
                Some(last) if line.starts_with([' ', '\t']) => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                _ => all.push(line.trim().to_string()),
            }
        }
        let split = |l: String| match l.split_once([' ', '\t']) {
            Some((name, rest)) => (name.to_ascii_lowercase(), rest.trim().to_string()),
            None => (l.to_ascii_lowercase(), String::new()),
        };
        all.into_iter().filter(|l| !l.is_empty()).map(split).collect()
    }
}

/// Why bytes are no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The first line has no status indicator.
    #[error("the answer is no MTQP response")]
    NotMtqp,
    /// A line is longer than lines may be, beyond what is borne.
    #[error("a line of the answer is longer than 998 characters")]
    LongLine,
    /// More bytes than the reader was told to take.
    #[error("the answer is larger than the bound")]
    TooLarge,
}

/// Reads responses from bytes fed in pieces of any size.
#[derive(Debug)]
pub struct Reader {
    buffer: Vec<u8>,
    at: usize,
    most: usize,
    partial: Option<Reply>,
}

/// Lines longer than 998 characters are borne up to this length: other servers count differently.
const LONGEST: usize = 4 * MAX_LINE;

impl Reader {
    /// A reader that takes at most `most` bytes of data a response.
    pub fn new(most: usize) -> Self {
        Reader { buffer: Vec::new(), at: 0, most, partial: None }
    }

    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole response, if it is there.
    ///
    /// # Errors
    /// [`ReplyError`]; nothing more can be read from this connection then.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if rest.len() > LONGEST { Err(ReplyError::LongLine) } else { Ok(None) };
            };
            let line = rest.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > LONGEST {
                return Err(ReplyError::LongLine);
            }
            let line = line.to_vec();
            self.at += end + 1;
            match self.partial.take() {
                None => {
                    let reply = first_line(&line)?;
                    if reply.indicator != Indicator::OkMulti {
                        return Ok(Some(reply));
                    }
                    self.partial = Some(reply);
                }
                Some(reply) if line == b"." => return Ok(Some(reply)),
                Some(mut reply) => {
                    reply.data.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
                    reply.data.extend_from_slice(b"\r\n");
                    if reply.data.len() > self.most {
                        return Err(ReplyError::TooLarge);
                    }
                    self.partial = Some(reply);
                }
            }
        }
    }
}

fn first_line(line: &[u8]) -> Result<Reply, ReplyError> {
    let line = String::from_utf8_lossy(line);
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    let (head, text) = line.split_at_checked(end).ok_or(ReplyError::NotMtqp)?;
    let mut words = head.split('/');
    let indicator = match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
        "+OK" => Indicator::Ok,
        "+OK+" => Indicator::OkMulti,
        "-TEMP" => Indicator::Temp,
        "-ERR" => Indicator::Err,
        "-BAD" => Indicator::Bad,
        _ => return Err(ReplyError::NotMtqp),
    };
    let info = words.filter(|w| !w.is_empty()).map(str::to_ascii_lowercase).collect();
    Ok(Reply { indicator, info, text: text.trim().to_string(), data: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], chunk: usize) -> Result<Vec<Reply>, ReplyError> {
        let mut reader = Reader::new(10_000);
        let mut out = Vec::new();
        for piece in bytes.chunks(chunk) {
            reader.feed(piece);
            while let Some(r) = reader.next_reply()? {
                out.push(r);
            }
        }
        Ok(out)
    }

    #[test]
    fn rfc3887_2_3_lines_that_begin_with_a_dot_are_stuffed_and_read_back() {
        let lines = ["..", ".", "a.b", "", ".x"];
        let wire = multi(&[], "Tracking information follows", &lines);
        assert!(String::from_utf8_lossy(&wire).contains("\r\n...\r\n..\r\na.b\r\n\r\n..x\r\n.\r\n"));
        let back = all(&wire, 1).unwrap();
        assert_eq!(back[0].data, b"..\r\n.\r\na.b\r\n\r\n.x\r\n");
    }

    #[test]
    fn rfc3887_3_examples_1_to_5_are_read() {
        let first = |t: &str| all(t.replace('\n', "\r\n").as_bytes(), 3).unwrap().remove(0);
        let one = first("+OK/MTQP MTQP server ready\n");
        assert_eq!((one.indicator, one.says("MTQP"), one.text.as_str()), (Indicator::Ok, true, "MTQP server ready"));
        let two = first("-TEMP/MTQP/admin Service down for admin, call back later\n");
        assert_eq!((two.indicator, two.says("admin")), (Indicator::Temp, true));
        let three = first("-ERR/MTQP/unavailable Service down\n");
        assert_eq!((three.indicator, three.says("Unavailable")), (Indicator::Err, true));
        assert!(first("+OK+/MTQP MTQP server ready\n.\n").options().is_empty());
        let five = "+OK+/MTQP MTQP server ready\nstarttls\nvnd.com.example.option2 with parameters private to example.com\n\
                    vnd.com.example.option3 with a very long\n list of parameters\n.\n";
        let options = first(five).options();
        assert_eq!(options[0], ("starttls".into(), String::new()));
        assert_eq!(options[2], ("vnd.com.example.option3".into(), "with a very long list of parameters".into()));
    }

    #[test]
    fn what_is_no_response_is_an_error_and_nothing_grows_without_bound() {
        assert_eq!(all(b"HTTP/1.1 400\r\n", 7), Err(ReplyError::NotMtqp));
        assert_eq!(all(&vec![b'x'; 100_000], 512), Err(ReplyError::LongLine));
        let large = [b"+OK+\r\n".to_vec(), b"0123456789\r\n".repeat(2_000)].concat();
        assert_eq!(all(&large, 512), Err(ReplyError::TooLarge));
    }

    #[test]
    fn a_status_line_holds_no_control_characters_and_fits() {
        let line = status(Indicator::Bad, &["x"], &format!("a\r\nb{}", "y".repeat(2_000)));
        assert!(line.starts_with(b"-BAD/x a??b") && line.len() == MAX_LINE + 2);
    }

    proptest! {
        #[test]
        fn chunks_of_any_size_give_the_same_responses(bytes in proptest::collection::vec(any::<u8>(), 0..2000), chunk in 1usize..512) {
            prop_assert_eq!(all(&bytes, chunk), all(&bytes, 2000));
        }

        #[test]
        fn what_is_written_is_read(lines in proptest::collection::vec("[ -~]{0,80}", 0..20), chunk in 1usize..512) {
            let wire = multi(&["MTQP"], "x", &lines);
            let back = all(&wire, chunk).unwrap();
            prop_assert_eq!(back.len(), 1);
            let want: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            prop_assert_eq!(String::from_utf8_lossy(&back[0].data).into_owned(), want);
        }
    }
}
