//! `msgtrk config check`

use crate::config::Config;
use crate::resolve::clock::Zone;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Arguments {
    /// Say what is wrong with a config file, and where
    Check {
        /// The file
        #[arg(value_name = "FILE", default_value = "/etc/msgtrk/msgtrk.toml")]
        file: PathBuf,
    },
}

pub fn run(a: &Arguments) -> anyhow::Result<ExitCode> {
    let Arguments::Check { file } = a;
    let config = Config::read(file, Zone::Fixed(0))?;
    if let Some(folder) = &config.parsers {
        crate::parse::Parsers::load(Some(folder))?;
    }
    anstream::println!("{}: all is well", super::text::clean(&file.display().to_string()));
    Ok(ExitCode::SUCCESS)
}
