//! The shape of the house: imports go down the data path only, files stay small, parser files are all built in.

use std::path::{Path, PathBuf};

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn all_sources() -> Vec<PathBuf> {
    let mut out = Vec::new();
    sources(Path::new("src"), &mut out);
    assert!(out.len() > 20, "run in the project's folder");
    out
}

/// Which of our modules a module may import; what is not named here wires and may import all.
fn allowed(module: &str) -> Option<&'static [&'static str]> {
    match module {
        "model" => Some(&["model"]),
        "source" => Some(&["model", "source"]),
        "parse" => Some(&["model", "parse"]),
        "resolve" => Some(&["model", "resolve"]),
        "ledger" => Some(&["model", "ledger"]),
        "store" => Some(&["model", "store"]),
        "trkstat" => Some(&["model", "trkstat"]),
        // Without I/O (R5): neither the store nor a socket is in reach.
        "mtqp::command" | "mtqp::reply" | "mtqp::session" | "mtqp::uri" | "mtqp::addresses" => Some(&["model", "mtqp"]),
        "mtqp::answer" => Some(&["model", "trkstat", "mtqp"]),
        "dns" => Some(&[]),
        "mtqp" => Some(&["model", "trkstat", "store", "dns", "mtqp"]),
        "smtp::command" | "smtp::reply" | "smtp::data" | "smtp::session" | "smtp::proxy" => Some(&["smtp"]),
        "config" => Some(&["model", "resolve", "mtqp", "smtp"]),
        "ingest" => Some(&["model", "source", "parse", "resolve", "ledger", "store", "config", "ingest"]),
        _ => None,
    }
}

#[test]
fn imports_go_down_the_data_path() {
    let mut seen = 0;
    for path in all_sources() {
        let names: Vec<String> = path.strip_prefix("src").unwrap().iter().map(|c| c.to_string_lossy().replace(".rs", "")).collect();
        let module = if names[0] == "mtqp" && allowed(&names.join("::")).is_some() { names.join("::") } else { names[0].clone() };
        let module = if names.len() > 2 && names[..2] == ["mtqp", "answer"] { "mtqp::answer".into() } else { module };
        let protocol = names[0] == "smtp" && names.len() > 1 && allowed(&names[..2].join("::")).is_some();
        let module = if protocol { names[..2].join("::") } else { module };
        let Some(may) = allowed(&module) else { continue };
        for (n, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let used: String = line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(may.contains(&used.as_str()), "{}:{}: {module} must not import {used}", path.display(), n + 1);
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "only {seen} imports were looked at");
}

#[test]
fn files_are_under_500_lines() {
    for path in all_sources() {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        let test_only = path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs");
        assert!(lines < 500 || test_only, "{} has {lines} lines: is it two things in one?", path.display());
    }
}

#[test]
fn every_parser_file_is_built_in() {
    let parsers = msgtrk::parse::Parsers::load(None).unwrap();
    let mut found = 0;
    for entry in std::fs::read_dir("parsers").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|e| e == "toml") && name != "replies" {
            assert!(parsers.by_name(&name).is_some(), "{} is not built in", path.display());
            found += 1;
        }
    }
    assert_eq!(found, parsers.files.len());
}
