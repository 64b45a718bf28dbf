//! The program: arguments, run, exit code (0 found or done, 1 nothing found, 2 error).

use std::process::ExitCode;

/// Records are made on some threads and freed on others, which the system's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match msgtrk::cli::run() {
        Ok(code) => code,
        // Whoever read our output has seen enough.
        Err(e) if msgtrk::cli::is_broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            anstream::eprintln!("msgtrk: {}", msgtrk::cli::text::clean(&msgtrk::cli::in_words(&e)));
            ExitCode::from(2)
        }
    }
}
