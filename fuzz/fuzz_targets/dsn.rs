//! Any bytes as a mail: reading it never panics, and what is read stays within its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use msgtrk::parse::dsn::{Reader, Reading};
use std::sync::LazyLock;

static READER: LazyLock<Reader> = LazyLock::new(|| Reader::load(None).expect("the built-in files"));

fuzz_target!(|mail: &[u8]| {
    if let Reading::Reports(reports) = READER.read(mail) {
        for r in &reports {
            assert!(!r.claims.is_empty() && r.claims.len() <= 5_000);
            assert_eq!(r.name().len(), 32);
        }
    }
    let _ = msgtrk::source::mailbox::kind_of(mail);
});
