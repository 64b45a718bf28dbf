//! Tests of the input side, and what they share.

mod blocks;
mod damage;
mod discover;
pub(crate) mod history;
mod identity;
mod tail;
mod tail_model;
mod troubles;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::*;

pub(super) const ALL: [Compression; 5] = [Compression::Plain, Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];

pub(super) fn pack(how: Compression, data: &[u8]) -> Vec<u8> {
    match how {
        Compression::Plain => data.to_vec(),
        Compression::Utf16Le => String::from_utf8_lossy(data).encode_utf16().flat_map(u16::to_le_bytes).collect(),
        Compression::Utf16Be => String::from_utf8_lossy(data).encode_utf16().flat_map(u16::to_be_bytes).collect(),
        Compression::Gzip => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
        Compression::Bzip2 => {
            let mut w = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
        Compression::Xz => {
            let mut w = liblzma::write::XzEncoder::new(Vec::new(), 1);
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
        Compression::Zstd => {
            let mut w = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            w.include_checksum(true).unwrap();
            w.write_all(data).unwrap();
            w.finish().unwrap()
        }
    }
}

/// Lines that do not compress well, of lengths from 0 to 200.
pub(super) fn lines(count: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::new();
    for i in 0..count {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(format!("{i} ").as_bytes());
        let mut y = x;
        for _ in 0..x % 190 {
            y = y.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            out.push(b' ' + ((y >> 40) % 94) as u8);
        }
        out.push(b'\n');
    }
    out
}

pub(super) struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn put(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, data).unwrap();
        path
    }
}

pub(super) fn small(block_size: usize, max_line: usize) -> BlockOptions {
    BlockOptions { block_size, max_line }
}

/// What reading a file to its end gives.
#[derive(Debug, Default)]
pub(super) struct All {
    /// Without unterminated blocks.
    pub bytes: Vec<u8>,
    pub unterminated: Vec<u8>,
    pub error: Option<SourceError>,
    pub states: Vec<FileState>,
    pub oversized: u64,
}

impl All {
    pub fn last(&self) -> FileState {
        self.states.last().unwrap().clone()
    }
}

pub(super) fn drain(mut blocks: Blocks) -> All {
    let mut all = All::default();
    let mut at = None;
    loop {
        match blocks.next() {
            Ok(Some(block)) => {
                assert!(!block.bytes.is_empty());
                if block.unterminated {
                    all.unterminated.extend_from_slice(&block.bytes);
                } else {
                    assert!(at.is_none_or(|a| a == block.offset), "gap");
                    at = Some(blocks.consumed());
                    all.bytes.extend_from_slice(&block.bytes);
                }
                blocks.give_back(block.bytes);
            }
            Ok(None) => break,
            Err(e) => {
                assert!(all.error.is_none(), "an error is told once");
                all.error = Some(e);
            }
        }
        all.states.extend(blocks.state());
    }
    all.states.extend(blocks.state());
    all.oversized = blocks.oversized();
    all
}

pub(super) fn opened(path: &Path) -> Opened {
    open(&SourceFile::new(path), &Limits::default()).unwrap()
}

pub(super) fn read_all(path: &Path, options: BlockOptions) -> All {
    drain(Blocks::new(opened(path), options).unwrap())
}

/// Recalls and reads: (what recall said, what was read).
pub(super) fn again(known: &Known, path: &Path, options: BlockOptions) -> (&'static str, All) {
    let mut opened = opened(path);
    let said = match known.recall(&mut opened).unwrap() {
        Recall::Unchanged(_) => return ("unchanged", All::default()),
        Recall::New => "new",
        Recall::Prefix(s) => {
            assert!(opened.resume_offset() <= s.length);
            "prefix"
        }
    };
    (said, drain(Blocks::new(opened, options).unwrap()))
}
