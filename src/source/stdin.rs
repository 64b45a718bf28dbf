//! Standard input as a live source: read once, without position.

use std::io::{ErrorKind, Read};
use std::sync::atomic::Ordering;
use std::thread;

use super::feed::{Feed, Parcel};
use super::framing::{Decoder, Framing};
use super::live::Wake;

/// Bytes asked for at once.
const CHUNK: usize = 64 * 1024;

/// Reads standard input in a thread until it ends. Lines longer than `max_line` bytes are cut and counted.
pub fn stdin(max_line: usize, wake: Wake) -> std::io::Result<Feed> {
    from_reader(std::io::stdin(), max_line, wake)
}

/// As [`stdin`], from anything that can be read.
pub(super) fn from_reader(mut input: impl Read + Send + 'static, max_line: usize, wake: Wake) -> std::io::Result<Feed> {
    let (sender, status, feed) = Feed::new("-", None);
    thread::Builder::new().name("stdin".into()).spawn(move || {
        let mut decoder = Decoder::new(Framing::Newline, max_line);
        let mut chunk = vec![0; CHUNK];
        let mut ended = false;
        while !ended {
            let mut lines = Vec::new();
            match input.read(&mut chunk) {
                Ok(0) => {
                    decoder.finish(&mut lines);
                    ended = true;
                }
                Ok(n) => decoder.feed(chunk.get(..n).unwrap_or_default(), &mut lines),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => {
                    status.wrong(format!("standard input: {e}; nothing more is read from it"));
                    ended = true;
                }
            }
            status.oversized.store(decoder.cut(), Ordering::Relaxed);
            let mut bytes = lines.join(&b'\n');
            if !bytes.is_empty() {
                bytes.push(b'\n');
                if sender.blocking_send(Parcel { bytes, cursor: None }).is_err() {
                    return;
                }
            }
            status.ended.store(ended, Ordering::Relaxed);
            wake();
        }
    })?;
    Ok(feed)
}
