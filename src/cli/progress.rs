//! Progress on a terminal: bytes, rate, time left. Elsewhere only what went wrong.

use crate::ingest::backfill::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::Path;

/// A progress bar on standard error, where that is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar; hidden where `quiet` or where there is no terminal.
    pub fn new(quiet: bool) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() });
        let form = "{bar:24} {percent:>3}%  {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Bar(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn total(&self, bytes: u64) {
        self.0.set_length(bytes);
    }

    fn file(&self, path: &Path) {
        self.0.set_message(super::text::clean(&path.display().to_string()));
    }

    fn position(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    fn problem(&self, text: &str) {
        let text = super::text::clean(text);
        self.0.suspend(|| anstream::eprintln!("msgtrk: {text}"));
    }
}
