//! What the fuzz targets do with their bytes, and what must hold whatever the bytes are. `cargo test` runs these, too.
#![allow(dead_code)]

pub mod ingest;
pub mod mtqp;
pub mod smtp;

/// What a target does with its bytes.
pub type Entry = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Entry)] = &[
    ("dsn", ingest::dsn),
    ("log_block", ingest::log_block),
    ("log_line", ingest::log_line),
    ("mailbox", ingest::mailbox),
    ("mtqp_command", mtqp::command),
    ("mtqp_reply", mtqp::reply),
    ("mtqp_session", mtqp::session),
    ("mtqp_uri", mtqp::uri),
    ("smtp_content", smtp::content),
    ("smtp_line", smtp::line),
    ("smtp_reply", smtp::reply),
    ("smtp_session", smtp::session),
    ("syslog", ingest::syslog),
    ("trkstat_read", mtqp::trkstat),
];
