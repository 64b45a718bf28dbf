//! `msgtrk completions` and `msgtrk man`: made from the command line's own description.

use clap::CommandFactory;
use std::io::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn completions(a: &Completions) -> anyhow::Result<ExitCode> {
    let mut text = Vec::new();
    clap_complete::generate(a.shell, &mut super::Cli::command(), "msgtrk", &mut text);
    std::io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The page of the program, then one section a command.
pub fn man() -> anyhow::Result<ExitCode> {
    let command = super::Cli::command();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("msgtrk {}", sub.get_name());
        let man = clap_mangen::Man::new(sub.clone().display_name(name.clone()));
        writeln!(text, ".SH {}", name.to_uppercase())?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        man.render_options_section(&mut text)?;
    }
    std::io::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
