//! Tests of the journal: its format always, the real thing where there is one.

use super::export::{Entry, MAX_VALUE};
use super::*;
use crate::source::live::Live;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

fn binary(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = format!("{name}\n").into_bytes();
    out.extend((value.len() as u64).to_le_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

fn decode(input: &[u8], chunk: usize) -> (Vec<Entry>, bool) {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let fine = input.chunks(chunk).all(|c| decoder.feed(c, &mut out).is_ok());
    (out, fine)
}

fn show(entries: &[Entry]) -> Vec<String> {
    entries.iter().filter_map(|e| e.line("here")).map(|l| String::from_utf8_lossy(&l).into_owned()).collect()
}

#[test]
fn entries_become_lines_in_chunks_of_any_size() {
    let mut input = b"__CURSOR=s=1;i=1\n__REALTIME_TIMESTAMP=1772438400123456\nPRIORITY=6\nSYSLOG_IDENTIFIER=postfix/qmgr\n_PID=77\n_HOSTNAME=mx1\nMESSAGE=4A: removed\n\n".to_vec();
    input.extend_from_slice(b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1772438401000000\n_SOURCE_REALTIME_TIMESTAMP=1772438400999999\n_COMM=exim4\nSYSLOG_PID=12\n_PID=77\n");
    input.extend(binary("MESSAGE", b"two\nlines\x1b = here\n"));
    input.extend(binary("OTHER", &[0, 10, 10, 255]));
    input.extend_from_slice(b"\n__CURSOR=s=1;i=3\n__REALTIME_TIMESTAMP=1772438402000000\nMESSAGE=\n\n");
    let expected = [
        "2026-03-02T08:00:00.123456+00:00 mx1 postfix/qmgr[77]: 4A: removed\n",
        "2026-03-02T08:00:00.999999+00:00 here exim4[12]: two#012lines#033 = here\n",
    ];
    for chunk in [1, 2, 3, 7, 64, input.len()] {
        let (entries, fine) = decode(&input, chunk);
        assert!(fine);
        assert_eq!(show(&entries), expected, "chunks of {chunk}");
        assert_eq!(entries[2].cursor.as_deref(), Some("s=1;i=3"), "an entry without a message moves the cursor, too");
    }
}

#[test]
fn hostile_fields_stay_in_their_place() {
    let mut input = b"__CURSOR=s=1\n__REALTIME_TIMESTAMP=1772438400000000\n".to_vec();
    input.extend(binary("SYSLOG_IDENTIFIER", b"postfix/smtp[1]: 4A: to=<x>\nfake host"));
    input.extend(binary("_HOSTNAME", b"mx1 postfix/qmgr:"));
    input.extend_from_slice(b"SYSLOG_PID=1]: x\nMESSAGE=m\nMESSAGE=second\n\n");
    let (entries, fine) = decode(&input, 5);
    assert!(fine);
    let line = &show(&entries)[0];
    assert_eq!(line.matches('\n').count(), 1);
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(words.len(), 4, "{line}");
    assert_eq!((words[1], words[3]), ("mx1_postfix/qmgr_", "m\n"));
    // Long values are cut, whatever length they claim; the next entry is whole.
    let mut input = b"__CURSOR=a\n__REALTIME_TIMESTAMP=1\nMESSAGE=".to_vec();
    input.extend(vec![b'x'; MAX_VALUE + 1000]);
    input.extend_from_slice(b"\n\n__CURSOR=b\n__REALTIME_TIMESTAMP=1\n");
    input.extend(binary("MESSAGE", &vec![b'y'; MAX_VALUE + 1000]));
    input.extend_from_slice(b"\n__CURSOR=c\n__REALTIME_TIMESTAMP=1\nMESSAGE=z\n\n");
    let (entries, fine) = decode(&input, 4096);
    assert!(fine);
    assert_eq!(entries.iter().map(|e| e.cut).collect::<Vec<_>>(), [true, true, false]);
    assert!(show(&entries)[..2].iter().all(|l| l.len() < MAX_VALUE + 100));
    // Lengths and names that make no sense.
    assert!(!decode(b"lower=1\n", 3).1);
    assert!(!decode(b"MESSAGE\n\x01\0\0\0\0\0\0\0abc\n", 3).1);
    assert!(decode(b"MESSAGE\n\xff\xff\xff\xff\xff\xff\xff\xffabc\n", 3).1, "waits, without memory, for what never comes");
}

fn collect(feed: &mut Feed, count: usize) -> Vec<String> {
    let mut out = Vec::new();
    for _ in 0..400 {
        if let Some(lines) = feed.next(Instant::now()) {
            out.extend(String::from_utf8_lossy(&lines.bytes).lines().map(str::to_string));
        }
        if out.len() >= count {
            break;
        }
        thread::sleep(Duration::from_millis(25));
    }
    out
}

#[test]
fn no_journalctl_is_told_once() {
    let options = JournalOptions { program: "/nonexistent/journalctl".into(), cursor: Some("c".into()), ..JournalOptions::default() };
    let mut feed = journal(options, Arc::new(|| {})).unwrap();
    for _ in 0..100 {
        thread::sleep(Duration::from_millis(20));
        if feed.health()[0].error.is_some() {
            break;
        }
    }
    let problems = feed.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].text.contains("/nonexistent/journalctl"), "{}", problems[0].text);
    assert_eq!(feed.checkpoint().cursors, [("journal".to_string(), "c".to_string())]);
}

/// A child that dies after some entries is started again behind the last of them.
#[test]
fn a_child_that_dies_is_started_again_behind_its_last_entry() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("fake");
    let text = "#!/bin/sh\nfor a in \"$@\"; do case $a in --after-cursor=*) n=${a#--after-cursor=};; esac; done\nn=$((${n:-0}+1))\n\
        printf '__CURSOR=%s\\n__REALTIME_TIMESTAMP=1\\nMESSAGE=entry %s\\n\\n__CURSOR=torn' $n $n\necho trouble >&2\nexit 1\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut feed = journal(JournalOptions { program: script, ..JournalOptions::default() }, Arc::new(|| {})).unwrap();
    let lines = collect(&mut feed, 3);
    let ends: Vec<&str> = lines.iter().map(|l| &l[l.len() - 7..]).collect();
    assert_eq!(ends, ["entry 1", "entry 2", "entry 3"]);
    assert!(feed.problems().iter().any(|p| p.text.contains("trouble")));
}

/// The real thing: a journal made by systemd-journal-remote out of an export text.
#[test]
fn a_real_journal_is_read_and_followed_by_cursor() {
    let remote =
        ["/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote"].into_iter().find(|p| Path::new(p).exists());
    let Some(remote) = remote.filter(|_| Command::new("journalctl").arg("--version").output().is_ok()) else {
        eprintln!("skipped: no journalctl or systemd-journal-remote here");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, from: u64, to: u64| {
        let mut text = Vec::new();
        for n in from..to {
            let head = format!(
                "__REALTIME_TIMESTAMP={}\n__MONOTONIC_TIMESTAMP={n}\n_BOOT_ID=0123456789abcdef0123456789abcdef\n_HOSTNAME=mx1\nSYSLOG_IDENTIFIER=postfix/qmgr\n_PID=5\n",
                1_772_438_400_000_000 + n
            );
            text.extend_from_slice(head.as_bytes());
            text.extend(binary("MESSAGE", format!("N{n}: a\nb").as_bytes()));
            text.push(b'\n');
        }
        let output = dir.path().join(name);
        let mut child = Command::new(remote)
            .arg("--output")
            .arg(&output)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        assert!(child.wait().unwrap().success());
    };
    make("one.journal", 1, 4);
    let options = JournalOptions { directory: Some(dir.path().into()), ..JournalOptions::default() };
    let mut feed = journal(options.clone(), Arc::new(|| {})).unwrap();
    let lines = collect(&mut feed, 3);
    assert_eq!(
        lines,
        [1, 2, 3].map(|n| format!("2026-03-02T08:00:00.00000{n}+00:00 mx1 postfix/qmgr[5]: N{n}: a#012b")),
        "{:?}",
        feed.problems()
    );
    let cursor = feed.checkpoint().cursors[0].1.clone();
    drop(feed);
    make("two.journal", 4, 6);
    let mut feed = journal(JournalOptions { cursor: Some(cursor), ..options }, Arc::new(|| {})).unwrap();
    let lines = collect(&mut feed, 2);
    assert!(lines.len() == 2 && lines[0].contains("N4: a#012b") && lines[1].contains("N5: "), "{lines:?}");
}
