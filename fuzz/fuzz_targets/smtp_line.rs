#![no_main]

#[path = "../smtp_entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::line(data));
