use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;

fn names(found: &Discovered) -> Vec<Vec<String>> {
    let name = |f: &SourceFile| f.path.file_name().unwrap().to_string_lossy().into_owned();
    found.series.iter().map(|s| s.files.iter().map(name).collect()).collect()
}

/// Each row: one series, oldest first.
const SERIES: &[&[&str]] = &[
    &["mail.log.10.gz", "mail.log.9.gz", "mail.log.2.gz", "mail.log.1", "mail.log"],
    &["maillog-20251231.xz", "maillog-20260101.xz", "maillog-20260301", "maillog"],
    &["mail.log-20260301.gz", "mail.log-20260301-1772352000.gz", "mail.log-20260301-1772438400.gz", "mail.log"],
    &["mail.log.2026-02-28", "mail.log.2026-03-01", "mail.log.2026-03-02.zst"],
    &["mainlog.10", "mainlog.02", "mainlog.01", "mainlog"],
    &["mail.log-2026030109", "mail.log-2026030110", "mail.log"],
    &["mail.log-2026030108.backup", "mail.log-2026030109", "mail.log"],
    &["mail.log-1772352000", "mail.log-1772438400.bz2", "mail.log"],
    &["mail-20260301.log", "mail-20260302.log", "mail.log"],
    &["mail.3.log", "mail.2.log", "mail.1.log", "mail.log"],
    &["mail.log-20260301.2", "mail.log-20260301.1", "mail.log-20260301", "mail.log-20260302"],
    &["mail.log.2026-03-01_12-00", "mail.log.2026-03-01_13-00", "mail.log"],
    &["mail.log.20260301T235959", "mail.log.20260302T000001"],
    &["mainlog-202512", "mainlog-202601", "mainlog-202602"],
    &["2026-03-01.log", "2026-03-02.log"],
    &["mail.2026.02.28", "mail.2026.03.01"],
    &["mail.log.old", "mail.log"],
    &["maillog.2.bz2", "maillog.1.bz2", "maillog.0.bz2", "maillog"],
    &["@400000005e5a0000000f4240.s", "@400000005e5b0000000f4240.s", "current"],
    &["10.0.0.1.log.2.gz", "10.0.0.1.log.1", "10.0.0.1.log"],
    &["mail.log.2", "mail.log.1", "mail.log.1.gz", "mail.log.gz", "mail.log"],
    &["mail-2026-03-01.log.1", "mail-2026-03-01.log", "mail-2026-03-02.log"],
];

#[test]
fn series_are_ordered_oldest_first() {
    for row in SERIES {
        let place = Place::new();
        let mut paths: Vec<PathBuf> = row.iter().map(|n| place.put(n, n.as_bytes())).collect();
        for turn in 0..row.len() {
            paths.rotate_left(turn);
            if turn % 2 == 1 {
                paths.reverse();
            }
            let found = discover(&paths);
            assert!(found.problems.is_empty());
            assert_eq!(names(&found), [row.to_vec()], "given {paths:?}");
        }
        assert_eq!(names(&discover(&[place.dir.path().into()])), [row.to_vec()]);
    }
}

#[test]
fn what_is_no_sibling_stays_apart() {
    for pair in [
        ["10.0.0.1.log", "10.0.0.2.log"],
        ["10.0.0.1", "10.0.0.2"],
        ["mail.log", "mail.err"],
        ["mx1-mail.log", "mx2-mail.log"],
        ["a/mail.log", "b/mail.log.1"],
        ["mail-1.log", "mail-2.log"],
    ] {
        let place = Place::new();
        pair.iter().for_each(|n| drop(place.put(n, n.as_bytes())));
        assert_eq!(discover(&[place.dir.path().into()]).series.len(), 2, "{pair:?}");
    }
}

#[test]
fn a_changed_scheme_goes_by_time() {
    for numbers_first in [true, false] {
        let place = Place::new();
        let now = std::time::SystemTime::now();
        let old = now - std::time::Duration::from_secs(100_000);
        for (name, first) in [("mail.log.1", numbers_first), ("mail.log-20260301", !numbers_first)] {
            place.put(name, name.as_bytes());
            fs::File::options().write(true).open(place.path(name)).unwrap().set_modified(if first { old } else { now }).unwrap();
        }
        place.put("mail.log", b"");
        let found = names(&discover(&[place.dir.path().into()]));
        let want =
            if numbers_first { ["mail.log.1", "mail.log-20260301", "mail.log"] } else { ["mail.log-20260301", "mail.log.1", "mail.log"] };
        assert_eq!(found, [want]);
    }
}

#[test]
fn one_file_is_there_once() {
    let place = Place::new();
    let path = place.put("logs/mail.log", b"x\n");
    symlink(&path, place.path("a-link.log")).unwrap();
    fs::hard_link(&path, place.path("logs/zz-hard.log")).unwrap();
    symlink(place.path("logs"), place.path("a-folder")).unwrap();
    let all = [
        place.path("a-folder"),
        place.path("a-link.log"),
        path.clone(),
        path.clone(),
        place.path("logs"),
        place.dir.path().into(),
        place.path("logs/../logs"),
    ];
    for turn in 0..all.len() {
        let mut given = all.to_vec();
        given.rotate_left(turn);
        let found = discover(&given);
        assert_eq!(found.series.len(), 1);
        assert_eq!(found.series[0].files.len(), 1);
        assert_eq!(found.series[0].files[0].path.file_name(), path.file_name());
    }
    // only by its symlink
    let found = discover(&[place.path("a-link.log")]);
    assert_eq!(found.series[0].files[0].path, place.path("a-link.log"));
}

#[test]
fn loops_of_symlinks_end() {
    let place = Place::new();
    place.put("d/e/mail.log", b"x\n");
    symlink(place.dir.path(), place.path("d/e/up")).unwrap();
    symlink(place.path("d"), place.path("d/e/again")).unwrap();
    symlink(place.path("self"), place.path("self")).unwrap();
    let found = discover(&[place.dir.path().into()]);
    assert_eq!(found.series.len(), 1);
    assert_eq!(found.series[0].files[0].path, place.path("d/e/mail.log"));
    assert_eq!(found.problems.len(), 1); // self -> self
    assert!(found.problems[0].to_string().contains("self"));
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_goes_on() {
    let place = Place::new();
    let good = place.put("mail.log", b"x\n");
    let journal = place.put("system.journal", b"LPKSHHRH");
    let socket = place.path("dev-log");
    let _listener = UnixListener::bind(&socket).unwrap();
    symlink(place.path("gone"), place.path("dangling")).unwrap();
    let found = discover(&[good, journal, socket, place.path("missing.log"), place.path("dangling")]);
    assert_eq!(names(&found), [["mail.log"]]);
    assert_eq!(found.problems.len(), 4);
    let text: Vec<String> = found.problems.iter().map(ToString::to_string).collect();
    assert!(text.iter().any(|t| t.contains("missing.log: no such file")), "{text:?}");
    assert!(text.iter().any(|t| t.contains("journalctl")), "{text:?}");
    let found = discover(&[place.dir.path().into()]);
    assert_eq!((found.problems.len(), found.skipped), (1, 2)); // the dangling link; journal and socket
    let file = SourceFile::new(place.path("vanished.log"));
    assert!(matches!(open(&file, &Limits::default()), Err(SourceError::Missing { .. })));
}

#[test]
fn a_file_replaced_after_discovery_is_noticed() {
    let place = Place::new();
    let path = place.put("mail.log", b"x\n");
    let found = discover(std::slice::from_ref(&path));
    let file = &found.series[0].files[0];
    assert!(!open(file, &Limits::default()).unwrap().replaced());
    fs::rename(&path, place.path("mail.log.1")).unwrap();
    place.put("mail.log", b"y\n");
    assert!(open(file, &Limits::default()).unwrap().replaced());
}

#[test]
fn no_permission_is_told() {
    let place = Place::new();
    let path = place.put("secret.log", b"x\n");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&path).is_ok() {
        return; // root reads everything
    }
    let error = open(&SourceFile::new(&path), &Limits::default()).err().unwrap();
    assert!(matches!(error, SourceError::Denied { .. }) && error.to_string().contains("secret.log"));
}

#[test]
fn names_that_are_not_utf8() {
    let place = Place::new();
    for name in [&b"m\xff\xfeil.log.1"[..], b"m\xff\xfeil.log"] {
        fs::write(place.dir.path().join(OsStr::from_bytes(name)), b"a\n").unwrap();
    }
    let found = discover(&[place.dir.path().into()]);
    assert_eq!((found.series.len(), found.series[0].files.len()), (1, 2));
    let path = &found.series[0].files[0].path;
    assert!(path.as_os_str().as_bytes().ends_with(b"\xfeil.log.1"));
    let state = read_all(path, BlockOptions::default()).last();
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<FileState>(&json).unwrap(), state);
    let value = serde_json::to_value(&state).unwrap();
    assert_eq!(serde_json::from_value::<FileState>(value).unwrap(), state);
    let error = SourceError::Missing { path: PathBuf::from("a\x1b[31m\n") };
    assert!(!error.to_string().contains('\x1b'));
}

#[test]
fn standard_input_once() {
    let found = discover(&["-".into(), "-".into()]);
    assert_eq!(found.series.len(), 1);
    assert_eq!(found.series[0].files, [SourceFile::stdin()]);
}
