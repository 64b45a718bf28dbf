use super::mbox::Splitter;
use super::*;

fn mail(n: usize) -> String {
    format!("From: a@b\nSubject: {n}\n\nline\n>From here it is quoted\nnot From a line 12:00 Jan\n")
}

fn mbox(mails: std::ops::Range<usize>) -> String {
    mails.map(|n| format!("From x@y Mon Nov 23 12:00:0{} 2026\n{}\n", n % 10, mail(n))).collect()
}

fn subjects(mails: &[Mail]) -> Vec<String> {
    let line = |m: &Mail| String::from_utf8_lossy(&m.bytes).lines().find_map(|l| l.strip_prefix("Subject: ").map(str::to_string));
    mails.iter().filter_map(line).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[test]
fn mails_are_told_from_logs_by_content() {
    assert_eq!(kind_of(mbox(0..1).as_bytes()), Some(Kind::Mbox));
    assert_eq!(kind_of(mail(1).as_bytes()), Some(Kind::Mail));
    assert_eq!(kind_of(mail(1).replace('\n', "\r\n").as_bytes()), Some(Kind::Mail));
    assert_eq!(kind_of(mail(1).replace('\n', "\r").as_bytes()), Some(Kind::Mail));
    assert_eq!(kind_of(b"Nov 23 12:00:00 mx1 postfix/smtpd[1]: connect from: x\n"), None);
    assert_eq!(kind_of(b"2026-11-23 12:00:00 1xVSY6-0000Ef-23 => a@b\n"), None);
    assert_eq!(kind_of(b"{\"a\": 1}\n"), None);
    assert_eq!(kind_of(b"From: only one usual field\n\nx"), None);
    assert_eq!(kind_of(b"From here on, read this at 12:00 in Jan\n"), None);
    assert_eq!(kind_of(b""), None);
}

#[test]
fn an_mbox_is_cut_the_same_in_chunks_of_any_size_and_with_any_line_ends() {
    for ends in ["\n", "\r\n", "\r"] {
        let text = mbox(0..5).replace('\n', ends);
        for size in [1, 2, 7, 64, 100_000] {
            let (mut s, mut out) = (Splitter::at(0), Vec::new());
            // What ends a line is told by the first chunk; a file is read in large ones.
            s.push(text.as_bytes().get(..200).unwrap(), &mut out);
            text.as_bytes()[200..].chunks(size).for_each(|c| s.push(c, &mut out));
            s.end(&mut out);
            let whole: Vec<String> = out.iter().map(|m| String::from_utf8(m.0.clone()).unwrap().replace(ends, "\n")).collect();
            let want: Vec<String> = (0..5).map(|n| format!("{}\n", mail(n).replace(">From here", "From here"))).collect();
            assert_eq!(whole, want, "{ends:?} {size}");
            assert_eq!(out.last().unwrap().2, text.len() as u64);
        }
    }
}

#[test]
fn an_mbox_that_grows_shrinks_and_is_rewritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    std::fs::write(&path, mbox(0..3)).unwrap();
    let mut known = Vec::new();
    let mut read = |quiet: i64, most: usize| {
        let mut m = Mailbox::mbox(&path, &known);
        let got = subjects(&m.next(most, quiet).unwrap());
        for (_, json) in m.states() {
            known = vec![json];
        }
        got
    };
    let changed = || std::fs::metadata(&path).unwrap().modified().unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    // While it is being written the last mail may be half there.
    assert_eq!(read(changed() - 1, 100), ["0", "1"]);
    // The clock was set back by an hour: that is no reason to wait for it.
    assert_eq!(read(changed() - 3600, 100), ["2"]);
    assert_eq!(read(i64::MAX, 100), Vec::<String>::new());
    std::fs::write(&path, mbox(0..6)).unwrap();
    assert_eq!(read(i64::MAX, 2), ["3", "4"]);
    assert_eq!(read(i64::MAX, 2), ["5"]);
    // A mail program took a mail out: from the beginning again.
    std::fs::write(&path, mbox(1..6)).unwrap();
    assert_eq!(read(i64::MAX, 100), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_maildir_gives_each_mail_once_wherever_it_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["new", "cur", "tmp"] {
        std::fs::create_dir(dir.path().join(sub)).unwrap();
    }
    for n in 0..300 {
        std::fs::write(dir.path().join(format!("new/{n:04}.host")), mail(n)).unwrap();
    }
    std::fs::write(dir.path().join("tmp/half"), "From: x\n").unwrap();
    let mut box_ = Mailbox::open(dir.path(), &[]).unwrap().unwrap();
    assert_eq!(subjects(&box_.next(10, 0).unwrap()), numbers(0..10));
    let mut known: std::collections::BTreeMap<String, String> = box_.states().into_iter().collect();
    assert!(box_.states().is_empty());
    // Read by a person, flags set, one more arrives, the program starts anew.
    for n in 0..20 {
        std::fs::rename(dir.path().join(format!("new/{n:04}.host")), dir.path().join(format!("cur/{n:04}.host:2,S"))).unwrap();
    }
    let documents: Vec<String> = known.values().cloned().collect();
    let mut box_ = Mailbox::maildir(dir.path(), &documents);
    assert_eq!(subjects(&box_.next(1000, 0).unwrap()), numbers(10..300));
    assert!(box_.next(1000, 0).unwrap().is_empty());
    std::fs::write(dir.path().join("new/9999.host"), mail(9)).unwrap();
    assert_eq!(box_.next(1000, 0).unwrap().len(), 1);
    // What is gone is forgotten.
    known.extend(box_.states());
    std::fs::remove_dir_all(dir.path().join("cur")).unwrap();
    std::fs::create_dir(dir.path().join("cur")).unwrap();
    assert!(box_.next(1000, 0).unwrap().is_empty());
    known.extend(box_.states());
    let names: usize = known.values().map(|j| j.split("\"mails\":\"").nth(1).unwrap().trim_end_matches("\"}").len() / 16).sum();
    assert_eq!(names, 281);
}

#[test]
fn of_a_very_large_mail_only_the_front_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    let mut text = mbox(0..1);
    let long = format!("{}\n", "x".repeat(99_999));
    (0..60).for_each(|_| text.push_str(&long));
    text.push_str(&format!("{}{}", "y".repeat(300_000), "\n\n"));
    text.push_str(&mbox(1..2));
    std::fs::write(&path, &text).unwrap();
    let mails = Mailbox::mbox(&path, &[]).next(10, i64::MAX).unwrap();
    assert_eq!(subjects(&mails), ["0", "1"]);
    assert_eq!(mails[0].bytes.len(), MAX_MAIL);
    assert!(mails[0].size > 6_300_000);
}

#[test]
fn of_a_mail_of_200_mib_in_a_maildir_the_front_is_read_and_the_others_whole() {
    let dir = tempfile::tempdir().unwrap();
    ["new", "cur", "tmp"].iter().for_each(|sub| std::fs::create_dir(dir.path().join(sub)).unwrap());
    for n in 0..3 {
        std::fs::write(dir.path().join(format!("new/{n}.host")), mail(n)).unwrap();
    }
    std::fs::File::options().append(true).open(dir.path().join("new/1.host")).unwrap().set_len(200 << 20).unwrap();
    let mails = Mailbox::maildir(dir.path(), &[]).next(10, 0).unwrap();
    assert_eq!(subjects(&mails), ["0", "1", "2"]);
    assert_eq!(mails[1].bytes.len(), MAX_MAIL);
}
