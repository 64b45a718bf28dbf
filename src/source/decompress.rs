//! Decompression in a thread of its own, through a bounded channel.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread;

use super::open::Compression;
use super::utf16::Utf16;
use super::{Limits, SourceError};

/// Bytes of one message of the channel.
const CHUNK: usize = 256 * 1024;
/// Messages in flight.
const IN_FLIGHT: usize = 8;
/// Bytes asked of a decoder at once: what is lost at most before damaged data.
const SLICE: usize = 32 * 1024;
/// Most memory an xz stream may ask for (`xz -9` takes 65 MiB).
const XZ_MEMORY: u64 = 512 * 1024 * 1024;

/// The bytes of a file as they are on disk. A regular file is read by position, so that several
/// readers of one handle do not meet.
pub(super) struct RawInput {
    pub file: Arc<File>,
    /// `None`: a stream, read as it comes.
    pub at: Option<u64>,
}

impl Read for RawInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = match self.at {
                Some(at) => self.file.read_at(buf, at),
                None => (&*self.file).read(buf),
            };
            match got {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(n) => {
                    self.at = self.at.map(|at| at + n as u64);
                    return Ok(n);
                }
            }
        }
    }
}

enum Message {
    Data(Vec<u8>),
    Failed(SourceError),
    End,
}

/// The reading end: decompressed bytes, in order. Dropping it ends the thread.
pub(super) struct Decompressor {
    path: PathBuf,
    compression: Compression,
    messages: Receiver<Message>,
    used: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    out: u64,
    ended: bool,
}

impl Decompressor {
    /// Starts the thread. `disk` is kept at the number of bytes of the file used so far.
    pub fn start(
        path: &Path,
        compression: Compression,
        input: impl Read + Send + 'static,
        limits: &Limits,
        disk: Arc<AtomicU64>,
    ) -> Result<Self, SourceError> {
        let (sender, messages) = sync_channel(IN_FLIGHT);
        let (used, recycled) = channel();
        let pump = Pump { sender, recycled, limits: limits.clone(), disk: disk.clone(), out: 0, path: path.to_path_buf(), compression };
        let source = Counted { inner: input, buf: vec![0; CHUNK], start: 0, end: 0, disk };
        thread::Builder::new()
            .name("decompress".into())
            .spawn(move || pump.run(source))
            .map_err(|e| SourceError::from_io(path, "start a thread to decompress it", e))?;
        Ok(Decompressor { path: path.to_path_buf(), compression, messages, used, chunk: Vec::new(), at: 0, out: 0, ended: false })
    }

    /// Like [`Read::read`]; 0 is the end. After an error only 0 follows.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, SourceError> {
        while self.at >= self.chunk.len() && !self.ended {
            match self.messages.recv() {
                Ok(Message::Data(chunk)) => {
                    let old = std::mem::replace(&mut self.chunk, chunk);
                    self.at = 0;
                    // The thread may have ended: then nobody wants the buffer.
                    let _ = self.used.send(old);
                }
                Ok(Message::End) => self.ended = true,
                Ok(Message::Failed(e)) => {
                    self.ended = true;
                    return Err(e);
                }
                Err(_) => {
                    self.ended = true;
                    return Err(SourceError::Damaged {
                        path: self.path.clone(),
                        compression: self.compression,
                        position: 0,
                        decompressed: self.out,
                        detail: "the decompressor broke down (please report this)".into(),
                    });
                }
            }
        }
        let n = self.chunk.get(self.at..).unwrap_or_default().read(buf).unwrap_or(0);
        self.at += n;
        self.out += n as u64;
        Ok(n)
    }
}

/// Buffered bytes that counts what was used of them and can look ahead.
struct Counted<R> {
    inner: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    disk: Arc<AtomicU64>,
}

impl<R: Read> Counted<R> {
    /// The next bytes, at least `want` (below the buffer's size) unless the input ends before.
    fn peek(&mut self, want: usize) -> io::Result<&[u8]> {
        if self.end - self.start < want {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            while self.end < want {
                let n = self.inner.read(self.buf.get_mut(self.end..).unwrap_or_default())?;
                if n == 0 {
                    break;
                }
                self.end += n;
            }
        }
        Ok(self.buf.get(self.start..self.end).unwrap_or_default())
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, n: usize) {
        let n = n.min(self.end - self.start);
        self.start += n;
        self.disk.fetch_add(n as u64, Ordering::Relaxed);
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.fill_buf()?.read(buf)?;
        self.consume(n);
        Ok(n)
    }
}

/// Why the thread stops before the end.
enum Stop {
    /// Nobody listens.
    Unheard,
    Decoder(io::Error),
    Limit(String),
}

struct Pump {
    sender: SyncSender<Message>,
    recycled: Receiver<Vec<u8>>,
    limits: Limits,
    disk: Arc<AtomicU64>,
    out: u64,
    path: PathBuf,
    compression: Compression,
}

impl Pump {
    fn run(mut self, mut input: Counted<impl Read>) {
        let error = match self.members(&mut input) {
            Ok(()) => {
                let _ = self.sender.send(Message::End);
                return;
            }
            Err(Stop::Unheard) => return,
            Err(Stop::Limit(limit)) => SourceError::TooLarge {
                path: self.path.clone(),
                compressed: self.disk.load(Ordering::Relaxed),
                decompressed: self.out,
                limit,
            },
            // What the system says about reading the file, not what the decoder says about its bytes.
            Err(Stop::Decoder(e)) if e.raw_os_error().is_some() => SourceError::from_io(&self.path, "read it", e),
            Err(Stop::Decoder(e)) => SourceError::Damaged {
                path: self.path.clone(),
                compression: self.compression,
                position: self.disk.load(Ordering::Relaxed),
                decompressed: self.out,
                detail: if e.kind() == io::ErrorKind::UnexpectedEof {
                    "it ends in the middle (cut off, or still being written)".into()
                } else {
                    e.to_string()
                },
            },
        };
        let _ = self.sender.send(Message::Failed(error));
    }

    /// All members (gzip), streams (bzip2, xz) or frames (zstd), one after the other.
    fn members(&mut self, input: &mut Counted<impl Read>) -> Result<(), Stop> {
        let mut first = true;
        loop {
            let head = input.peek(if first { 6 } else { 4 }).map_err(Stop::Decoder)?;
            if head.is_empty() {
                return Ok(());
            }
            let zeros = head.iter().take_while(|b| **b == 0).count();
            if !first && zeros > 0 {
                input.consume(zeros); // padding of tapes and of xz
                continue;
            }
            if !first && !self.compression.may_begin(head) {
                let text = format!("after its end follow bytes that are no {}", self.compression);
                return Err(Stop::Decoder(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            first = false;
            match self.compression {
                Compression::Plain => self.drain(&mut *input)?,
                Compression::Utf16Le => self.drain(Utf16::new(&mut *input, false))?,
                Compression::Utf16Be => self.drain(Utf16::new(&mut *input, true))?,
                Compression::Gzip => self.drain(flate2::bufread::GzDecoder::new(&mut *input))?,
                Compression::Bzip2 => self.drain(bzip2::bufread::BzDecoder::new(&mut *input))?,
                Compression::Xz => {
                    let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0).map_err(|e| Stop::Decoder(e.into()))?;
                    self.drain(liblzma::bufread::XzDecoder::new_stream(&mut *input, stream))?;
                }
                Compression::Zstd => {
                    let decoder = zstd::stream::read::Decoder::with_buffer(&mut *input).map_err(Stop::Decoder)?;
                    self.drain(decoder.single_frame())?;
                }
            }
        }
    }

    /// Sends all that `decoder` gives.
    fn drain(&mut self, mut decoder: impl Read) -> Result<(), Stop> {
        loop {
            let mut chunk = match self.recycled.try_recv() {
                Ok(chunk) => chunk,
                Err(TryRecvError::Empty) => Vec::new(),
                Err(TryRecvError::Disconnected) => return Err(Stop::Unheard),
            };
            chunk.resize(CHUNK, 0);
            let mut filled = 0;
            let mut result = Ok(false);
            while filled < CHUNK {
                let to = CHUNK.min(filled + SLICE);
                match decoder.read(chunk.get_mut(filled..to).unwrap_or_default()) {
                    Ok(0) => result = Ok(true),
                    Ok(n) => {
                        filled += n;
                        self.out += n as u64;
                        if let Some((limit, over)) = self.over_limit() {
                            filled = filled.saturating_sub(usize::try_from(over).unwrap_or(usize::MAX));
                            result = Err(Stop::Limit(limit));
                        }
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) => result = Err(Stop::Decoder(e)),
                }
                if !matches!(result, Ok(false)) {
                    break;
                }
            }
            chunk.truncate(filled);
            if filled > 0 && self.sender.send(Message::Data(chunk)).is_err() {
                return Err(Stop::Unheard);
            }
            if result? {
                return Ok(());
            }
        }
    }

    /// The limit that was passed, and the bytes by which.
    fn over_limit(&self) -> Option<(String, u64)> {
        if let Some(max) = self.limits.max_decompressed.filter(|max| self.out > *max) {
            return Some((format!("{max} bytes"), self.out - max));
        }
        let max = self.limits.max_ratio?;
        let ratio = self.out / self.disk.load(Ordering::Relaxed).max(1);
        (self.out > self.limits.ratio_floor && ratio > max).then(|| (format!("{max} times its size"), 0))
    }
}
