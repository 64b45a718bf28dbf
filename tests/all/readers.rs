//! Reading an index needs the right to read, no more, and is safe while another process writes.

use crate::support::{Index, msgtrk};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

const NOBODY: u32 = 65_534;

fn line(n: usize) -> String {
    let (at, id) = (n % 60, 4000 + n);
    format!(
        "Mar  2 08:00:{at:02} mx1 postfix/smtpd[1]: 4Abc{id}zzz: client=a[192.0.2.1]\nMar  2 08:00:{at:02} mx1 postfix/qmgr[2]: 4Abc{id}zzz: from=<a@b>, size=1, nrcpt=1 (queue active)\n"
    )
}

/// As a user who owns nothing. The program lies in a folder that everybody may read.
fn as_nobody(program: &Path, index: &Path, args: &[&str]) -> Output {
    Command::new(program).uid(NOBODY).gid(NOBODY).current_dir("/").env_clear().arg("--index").arg(index).args(args).output().unwrap()
}

#[test]
fn an_unprivileged_reader_searches_while_another_process_writes() {
    let index = Index::new();
    let dir = index.dir.path().join("index");
    let log = index.dir.path().join("a.log");
    std::fs::write(&log, line(0)).unwrap();
    index.fill(std::slice::from_ref(&log), "h");
    for open in [index.dir.path(), dir.as_path()] {
        std::fs::set_permissions(open, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let program = index.dir.path().join("msgtrk");
    std::fs::copy(env!("CARGO_BIN_EXE_msgtrk"), &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    if Command::new("true").uid(NOBODY).output().is_err() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let done = AtomicBool::new(false);
    let begun = std::time::Instant::now();
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let mut runs = 0;
                while (!done.load(Ordering::Relaxed) && begun.elapsed().as_secs() < 60) || runs == 0 {
                    let out = as_nobody(&program, &dir, &["search", "--queue-id", "4Abc4000zzz", "--json"]);
                    let err = String::from_utf8_lossy(&out.stderr).into_owned();
                    assert!(out.status.success(), "{err}");
                    assert_eq!(String::from_utf8_lossy(&out.stdout).lines().count(), 1, "{err}");
                    runs += 1;
                }
            });
        }
        for n in 1..40 {
            std::fs::write(&log, (0..=n).map(line).collect::<String>()).unwrap();
            // A process of its own: a child of ours would hold our lock until it has become another program.
            let out = msgtrk(&dir, &["backfill", "--year", "2026", log.to_str().unwrap()]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
        done.store(true, Ordering::Relaxed);
    });
    let out = as_nobody(&program, &dir, &["backfill", "/etc/passwd"]);
    assert_eq!(out.status.code(), Some(2), "{}", String::from_utf8_lossy(&out.stderr));
}
