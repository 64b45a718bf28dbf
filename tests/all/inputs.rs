//! Bad input: whatever a path, an index or a disk may be, there is one clear message that names it and says what to do,
//! the rest of the work goes on, nothing stored is lost, and the exit code is 2 only if something asked for was not done.

use crate::support::{Index, msgtrk};
use msgtrk::store::{Store, StoreError};
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with an index to be and logs to read.
struct Place(Index);

/// What a run of the program came to.
struct Run {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Run {
    fn from(o: Output) -> Self {
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        Run { code: o.status.code().unwrap_or(-1), out: text(&o.stdout), err: text(&o.stderr) }
    }
}

impl Run {
    #[track_caller]
    fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }

    #[track_caller]
    fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in: {}", self.err);
        }
        self
    }
}

impl Place {
    fn new() -> Self {
        Place(Index::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.dir.path().join(name)
    }

    fn index(&self) -> PathBuf {
        self.path("index")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, args: &[&str]) -> Run {
        msgtrk(&self.index(), args).into()
    }

    fn backfill(&self, paths: &[&Path]) -> Run {
        command(&self.index()).args(["backfill", "--year", "2026"]).args(paths).output().unwrap().into()
    }

    /// All records by key, with their events.
    fn records(&self) -> Vec<(String, Vec<u8>)> {
        self.0.records().into_iter().map(|r| (r.key, r.events)).collect()
    }

    #[track_caller]
    fn holds(&self, logs: &str) {
        same(&self.records(), &plainly(logs));
    }

    fn count(&self) -> usize {
        self.0.records().len()
    }
}

fn command(index: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_msgtrk"));
    c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").arg("--index").arg(index).stdin(Stdio::null());
    c
}

/// Messages `from..to` of a Postfix log, five lines each.
fn log(from: usize, to: usize) -> String {
    let mut s = String::new();
    for i in from..to {
        let at = format!("Mar  2 {:02}:{:02}:{:02} mx1 postfix/", 8 + i / 3600 % 12, i / 60 % 60, i % 60);
        let id = format!("{:011X}", 0xA0_0000_0000 + i * 977);
        s += &format!("{at}smtpd[11]: {id}: client=c{i}.example[192.0.2.{}]\n", i % 250);
        s += &format!("{at}cleanup[12]: {id}: message-id=<m{i}@x.example>\n");
        s += &format!("{at}qmgr[13]: {id}: from=<s{i}@x.example>, size={}, nrcpt=1 (queue active)\n", 400 + i);
        let said = format!("status=sent (250 2.0.0 Ok: queued as B{i:09X})");
        s += &format!(
            "{at}smtp[14]: {id}: to=<r{i}@y.example>, relay=mx.y.example[198.51.100.9]:25, delay=1, delays=0/0/0/1, dsn=2.0.0, {said}\n"
        );
        s += &format!("{at}qmgr[13]: {id}: removed\n");
    }
    s
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    w.write_all(bytes).unwrap();
    w.finish().unwrap()
}

/// What an index of these logs holds when nothing goes wrong.
fn plainly(logs: &str) -> Vec<(String, Vec<u8>)> {
    let p = Place::new();
    let path = p.put("mail.log", logs);
    p.0.fill(&[path], "mx1");
    p.records()
}

#[test]
fn a_text_file_that_is_no_mail_log_is_counted_and_named() {
    let p = Place::new();
    let bad = p.put("logs/readme.txt", "Dear reader,\nthis is no log.\n\nMar 2 is a date.\n");
    let r = p.backfill(&[&bad]).ends(0).says(&["no line speaks of a message", "msgtrk parsers list", "no stamp   3 lines"]);
    assert!(r.err.contains("0 written"), "{}", r.err);
    let good = p.put("logs/mail.log", log(0, 3));
    p.backfill(&[&good, &bad]).ends(0);
    assert_eq!(p.count(), 3);
}

#[test]
fn the_file_that_is_no_mail_log_is_named_in_the_message() {
    let p = Place::new();
    let bad = p.put("logs/readme.txt", "Dear reader,\nthis is no log.\n");
    p.backfill(&[&bad]).ends(0).says(&["readme.txt"]);
    let other = p.put("logs/other.txt", "nothing of a mail here\n");
    let good = p.put("logs/mail.log", log(0, 3));
    p.backfill(&[&good, &other]).ends(0).says(&["other.txt"]);
}

#[test]
fn a_binary_file_is_refused_by_name_and_skipped_in_a_folder() {
    let p = Place::new();
    let good = p.put("logs/mail.log", log(0, 3));
    let bad = p.put("logs/prog.bin", b"\x7fELF\x02\x01\x01\0\0\0\0\0 rubbish\n".repeat(40));
    let r = p.backfill(&[&bad]).ends(2).says(&["prog.bin", "binary data", "leave it out"]);
    assert!(r.err.contains("0 written"), "{}", r.err);
    p.backfill(&[&bad, &good]).ends(2).says(&["prog.bin", "3 written"]);
    assert_eq!(p.count(), 3);
    let q = Place::new();
    q.backfill(&[&p.path("logs")]).ends(0).says(&["prog.bin", "3 written"]);
    assert_eq!(q.records(), p.records());
}

#[test]
fn empty_and_one_byte_files_are_nothing_to_complain_about() {
    let p = Place::new();
    let good = p.put("logs/mail.log", log(0, 2));
    for (name, bytes) in [("empty", ""), ("byte", "M"), ("newline", "\n")] {
        let path = p.put(&format!("logs/{name}.log"), bytes);
        p.backfill(&[&path]).ends(0);
        p.backfill(&[&path]).ends(0);
    }
    p.backfill(&[&p.path("logs")]).ends(0);
    assert_eq!(p.count(), 2);
    // A one-byte file that grows into a log is read from its start.
    p.put("logs/byte.log", log(2, 4));
    p.put("logs/empty.log", log(4, 5));
    p.backfill(&[&p.path("logs")]).ends(0);
    assert_eq!((p.count(), p.records()), (5, plainly(&log(0, 5))));
    assert!(good.exists());
}

#[test]
fn a_last_line_without_newline_is_read_and_never_doubled() {
    let whole = log(0, 6);
    let cut = whole.find(": removed").unwrap();
    let p = Place::new();
    for end in [cut, cut + 9, cut + 30, whole.len() - 1, whole.len()] {
        let path = p.put("mail.log", &whole[..end]);
        p.backfill(&[&path]).ends(0);
    }
    p.holds(&whole);
    // The file that never gets its newline: its last line counts all the same.
    let q = Place::new();
    q.backfill(&[&q.put("mail.log", whole.trim_end())]).ends(0);
    assert_eq!(q.records(), p.records());
}

#[test]
fn a_truncated_gzip_keeps_the_lines_before_the_damage() {
    let whole = log(0, 600);
    let packed = gzip(whole.as_bytes());
    let p = Place::new();
    let bad = p.put("logs/mail.log.2.gz", &packed[..packed.len() * 3 / 4]);
    let good = p.put("logs/other.log", log(600, 603));
    p.backfill(&[&bad, &good]).ends(2).says(&["mail.log.2.gz", "damaged gzip data", "the lines before it were read"]);
    let kept = p.count();
    assert!((200..600).contains(&kept), "{kept}");
    assert_eq!(p.run(&["search", "--message-id", "m601@x.example"]).ends(0).out.lines().count(), 2);
    // The better copy gives the rest, and nothing twice.
    fs::write(&bad, &packed).unwrap();
    p.backfill(&[&bad]).ends(0);
    p.holds(&log(0, 603));
}

#[test]
fn damage_inside_each_compression_is_told_and_survived() {
    let whole = log(0, 300);
    let zst = zstd::encode_all(whole.as_bytes(), 1).unwrap();
    let mut flipped = gzip(whole.as_bytes());
    let middle = flipped.len() / 2;
    flipped[middle..middle + 8].fill(0xff);
    let p = Place::new();
    p.put("logs/a.zst", &zst[..zst.len() / 2]);
    p.put("logs/b.gz", flipped);
    p.put("logs/c.gz", b"\x1f\x8b");
    p.put("logs/d.log", log(0, 1));
    let r = p.backfill(&[&p.path("logs")]).ends(2).says(&["a.zst", "b.gz", "c.gz"]);
    assert!(r.err.matches("damaged").count() >= 3, "{}", r.err);
    assert!(p.count() >= 1);
}

#[test]
fn lines_of_a_mebibyte_and_more_are_cut_and_counted_and_the_next_is_read() {
    let p = Place::new();
    let long = "x".repeat(3 << 20);
    let mib = "y".repeat((1 << 20) - 100);
    let head = "Mar  2 09:00:00 mx1 postfix/";
    let logs = format!(
        "{}{long}\n{}{head}cleanup[1]: B000000001: message-id=<{mib}@x.example>\n{head}qmgr[1]: B000000001: from=<s@x.example>, size=1, nrcpt=1 (queue active)\n\
         {head}smtp[1]: B000000002: to=<r@x.example>, relay=none, delay=1, delays=0/0/0/1, dsn=4.0.0, status=deferred ({long})\n{}",
        log(0, 1),
        log(1, 2),
        log(2, 3)
    );
    let r = p.backfill(&[&p.put("mail.log", logs)]).ends(0).says(&["2 lines too long, cut"]);
    for i in 0..3 {
        p.run(&["trace", &format!("m{i}@x.example")]).ends(0);
    }
    p.run(&["search", "--from", "s@x.example"]).ends(0);
    assert!(p.records().iter().all(|(key, events)| key.len() <= 1024 && events.len() < 64 << 10), "bounded");
    assert!(r.err.len() < 10_000, "a message holds no line of a mebibyte");
    let all = p.run(&["search", "--json", "--lines", "--limit", "0"]).ends(0);
    assert!(all.out.len() < 200_000, "{}", all.out.len());
    p.run(&["stats", "--unparsed"]).ends(0);
}

#[test]
fn bytes_that_are_no_utf_8_survive_in_lines_and_names() {
    let p = Place::new();
    let mut bytes = log(0, 2).into_bytes();
    let line = b"Mar  2 09:00:00 mx1 postfix/qmgr[1]: B000000001: from=<j\xfcrgen@x.example>, size=1, nrcpt=1 (queue active)\n";
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(b"Mar  2 09:00:01 mx1 postfix/qmgr[1]: B000000001: removed\n\xff\xfe\x80 rubbish\n");
    let dir = p.path("logs");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join(OsStr::from_bytes(b"mail-\xff\xe4.log"));
    fs::write(&file, &bytes).unwrap();
    p.backfill(&[&file]).ends(0);
    assert_eq!(p.count(), 3);
    p.backfill(&[&dir]).ends(0).says(&["nothing new"]);
    let r = p.run(&["search", "--json", "--lines", "--queue-id", "B000000001"]).ends(0);
    let v: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!(v["envelope_from"], "j\u{fffd}rgen@x.example");
    p.run(&["search", "--from", "j*rgen@x.example"]).ends(0);
    // A name that cannot be decoded is still named when something is wrong with the file.
    let bad = dir.join(OsStr::from_bytes(b"gone-\xff.log"));
    p.backfill(&[&bad, &file]).ends(2).says(&["gone-\u{fffd}.log"]);
}

#[test]
fn a_missing_file_is_named_and_the_good_one_is_read() {
    let p = Place::new();
    let good = p.put("logs/mail.log", log(0, 3));
    let gone = p.path("logs/nowhere.log");
    p.backfill(&[&gone, &good]).ends(2).says(&["nowhere.log", "no such file", "check the name", "3 written"]);
    assert_eq!(p.count(), 3);
    // A file that vanished between two looks, as a dangling link does.
    symlink(&gone, p.path("logs/link.log")).unwrap();
    p.put("logs/mail2.log", log(3, 5));
    p.backfill(&[&p.path("logs")]).says(&["link.log", "no such file", "2 written"]);
    assert_eq!(p.count(), 5);
}

#[test]
fn a_file_or_folder_without_permission_is_named_and_the_rest_is_read() {
    let p = Place::new();
    let good = p.put("logs/mail.log", log(0, 3));
    let file = p.put("logs/secret.log", log(3, 4));
    let folder = p.put("logs/closed/x.log", log(4, 5)).parent().unwrap().to_path_buf();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o0)).unwrap();
    if fs::File::open(&file).is_ok() {
        eprintln!("skipped: this user (root?) may read everything");
        return;
    }
    p.backfill(&[&file, &good]).ends(2).says(&["secret.log", "permission denied", "group adm"]);
    p.backfill(&[&p.path("logs")]).ends(2).says(&["secret.log", "closed", "permission denied"]);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(p.count(), 3);
}

#[test]
fn an_index_of_another_version_is_refused_and_left_alone() {
    for (format, named) in [("msgtrk_format_999", "999"), ("msgtrk_other", "unknown")] {
        let p = Place::new();
        let path = p.put("mail.log", log(0, 3));
        p.backfill(&[&path]).ends(0);
        let meta = p.index().join("meta.json");
        let text = fs::read_to_string(&meta).unwrap();
        let ours = format!("msgtrk_format_{}", msgtrk::store::VERSION);
        assert!(text.contains(&ours));
        fs::write(&meta, text.replace(&ours, format)).unwrap();
        let before = listing(&p.index());
        let more = p.put("more.log", log(3, 6));
        let commands: [&[&str]; 6] =
            [&["search"], &["trace", "m1@x.example"], &["stats"], &["stuck"], &["verify"], &["backfill", more.to_str().unwrap()]];
        for c in commands {
            let r = p.run(c).ends(2).says(&["index", named, "rebuild it with `msgtrk backfill`"]);
            assert!(r.err.contains(p.index().to_str().unwrap()), "{c:?}: {}", r.err);
        }
        assert_eq!(listing(&p.index()), before, "an index of another version is never touched");
        fs::write(&meta, text).unwrap();
        p.backfill(&[&more]).ends(0);
        assert_eq!(p.count(), 6);
    }
}

/// Names, sizes and hashes of a folder's files, the lock file left out.
fn listing(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<_> = files.filter(|p| p.extension().is_none_or(|e| e != "lock")).map(|p| (p.clone(), fs::read(&p).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn a_folder_or_file_that_is_no_index_is_refused_and_left_alone() {
    let p = Place::new();
    let path = p.put("mail.log", log(0, 3));
    p.put("index/photo.jpg", "mine");
    p.backfill(&[&path]).ends(2).says(&["photo.jpg", "name an empty or new folder"]);
    assert_eq!(listing(&p.index()).len(), 1);
    let q = Place::new();
    q.put("index", "a file");
    let path = q.put("mail.log", log(0, 3));
    let r = q.backfill(&[&path]).ends(2);
    assert!(r.err.contains(q.index().to_str().unwrap()), "{}", r.err);
    assert_eq!(fs::read(q.index()).unwrap(), b"a file");
    // Damaged: a file of the index is missing, or its list of files is rubbish.
    let d = Place::new();
    d.backfill(&[&d.put("mail.log", log(0, 3))]).ends(0);
    let store = fs::read_dir(d.index()).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "store"));
    fs::remove_file(store.unwrap()).unwrap();
    d.run(&["search"]).ends(2).says(&["index", "damaged", "rebuild"]);
    d.put("index/meta.json", "{ rubbish");
    let r = d.run(&["search"]).ends(2).says(&["rebuild"]);
    assert!(r.err.contains(d.index().to_str().unwrap()), "{}", r.err);
}

#[test]
fn a_locked_index_names_who_holds_it_and_is_still_searched() {
    let p = Place::new();
    let path = p.put("mail.log", log(0, 3));
    p.backfill(&[&path]).ends(0);
    let more = p.put("more.log", log(3, 6));
    let store = Store::open(&p.index()).unwrap();
    let writer = store.writer().unwrap();
    let pid = format!("pid {}", std::process::id());
    p.backfill(&[&more]).ends(2).says(&["index", "locked by another msgtrk", &pid, "stop it"]);
    assert!(matches!(store.writer(), Err(StoreError::Locked { .. })));
    assert_eq!(p.run(&["search", "--json"]).ends(0).out.lines().count(), 3);
    drop(writer);
    p.backfill(&[&more]).ends(0);
    assert_eq!(p.count(), 6);
}

/// Runs msgtrk where no file may grow over `blocks` (of 512 bytes).
fn limited(p: &Place, blocks: usize, path: &Path) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut c = Command::new("sh");
    c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").arg("-c").arg(script).arg("sh").arg(env!("CARGO_BIN_EXE_msgtrk"));
    c.arg("--index").arg(p.index()).args(["backfill", "--year", "2026"]).arg(path).stdin(Stdio::null());
    c.output().unwrap().into()
}

#[test]
fn a_file_size_limit_stops_a_backfill_without_loss() {
    let p = Place::new();
    let first = p.put("first.log", log(0, 3));
    p.backfill(&[&first]).ends(0);
    let big = p.put("big.log", log(3, 2000));
    let r = limited(&p, 64, &big).ends(2);
    assert!(r.err.contains(p.index().to_str().unwrap()), "names the index: {}", r.err);
    assert!(r.err.contains("File too large") || r.err.contains("os error 27"), "{}", r.err);
    p.holds(&log(0, 3));
    p.run(&["verify"]).ends(0);
    p.backfill(&[&big]).ends(0);
    p.holds(&log(0, 2000));
    p.run(&["verify"]).ends(0);
}

#[test]
fn a_file_size_limit_says_what_to_do() {
    let p = Place::new();
    let r = limited(&p, 64, &p.put("big.log", log(0, 2000))).ends(2);
    let words = ["make room", "free", "room", "again"];
    assert!(words.iter().any(|w| r.err.contains(w)), "{}", r.err);
}

#[test]
fn a_full_disk_stops_a_backfill_without_loss() {
    let p = Place::new();
    let first = p.put("first.log", log(0, 3));
    let big = p.put("big.log", log(3, 3000));
    fs::create_dir(p.path("disk")).unwrap();
    let script = r#"
        mount -t tmpfs -o size=20m none "$1/disk" 2>/dev/null || exit 77
        head -c 20357120 /dev/zero > "$1/disk/ballast"
        m() { f=$1; b=$2; shift 2; "$b" --index "$f/disk/index" "$@"; echo "code $?"; }
        m "$1" "$2" backfill "$1/first.log"
        m "$1" "$2" backfill "$1/big.log"
        m "$1" "$2" search m1
        m "$1" "$2" stats
        m "$1" "$2" verify
        rm "$1/disk/ballast"
        m "$1" "$2" backfill "$1/big.log"
        cp -r "$1/disk/index" "$1/index""#;
    let mut c = Command::new("unshare");
    c.args(["-rm", "sh", "-c", script, "sh"]).arg(p.path("")).arg(env!("CARGO_BIN_EXE_msgtrk"));
    c.env_remove("MSGTRK_INDEX").env("TZ", "UTC").stdin(Stdio::null());
    let r = match c.output() {
        Ok(o) if o.status.success() => Run::from(o),
        _ => {
            eprintln!("skipped: no small file system can be mounted here");
            return;
        }
    };
    let codes: Vec<&str> = r.out.lines().filter_map(|l| l.strip_prefix("code ")).collect();
    assert_eq!(codes, ["0", "2", "1", "0", "0", "0"], "{}\n{}", r.out, r.err);
    assert!(r.err.contains("No space left") && r.err.contains("disk/index"), "{}", r.err);
    assert!(r.out.contains("3 messages at an MTA"), "what was committed before is there: {}", r.out);
    let keys = |all: Vec<(String, Vec<u8>)>| all.into_iter().map(|r| r.0.rsplit_once('/').unwrap().0.to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(p.records()), keys(plainly(&format!("{}{}", log(0, 3), log(3, 3000)))));
    assert!(first.exists() && big.exists());
}

/// Waits until `true` or the process is over.
fn until(child: &mut Child, ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() && child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn interrupt(child: &Child) {
    Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
}

#[test]
fn ctrl_c_commits_and_the_next_run_goes_on() {
    // Few messages, many bytes: most lines are of another program.
    let p = Place::new();
    let other = "Mar  2 08:00:00 mx1 kernel: [123.456] eth0: link is up and this line says nothing of any mail at all\n".repeat(9_000);
    let text: String = (0..30).map(|i| log(i * 4, i * 4 + 4) + &other).collect();
    let path = p.put("mail.log", &text);
    let mut stopped = 0;
    for (n, wait) in ["msgtrk.lock", "meta.json", "meta.json"].iter().enumerate() {
        let mut c = command(&p.index());
        c.args(["backfill", "--year", "2026", "--memory", "1"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = c.spawn().unwrap();
        let file = p.index().join(wait);
        until(&mut child, || file.exists() && p.index().join("msgtrk.lock").exists());
        std::thread::sleep(Duration::from_millis(100 * n as u64 + 50));
        interrupt(&child);
        let r = Run::from(child.wait_with_output().unwrap());
        if r.code == 0 {
            continue; // It was done before the signal came.
        }
        stopped += 1;
        r.ends(2).says(&["committing", "stopped; what was read is kept, the same command goes on"]);
        p.run(&["verify"]).ends(0);
    }
    assert!(stopped > 0, "the file is too small for this machine");
    p.backfill(&[&path]).ends(0);
    p.holds(&text);
    p.backfill(&[&path]).ends(0).says(&["nothing new"]);
}

#[test]
fn a_second_run_adds_nothing_and_says_so() {
    let p = Place::new();
    let path = p.put("logs/mail.log", log(0, 50));
    p.backfill(&[&path]).ends(0).says(&["1 read, 0 with nothing new", "50 written"]);
    let before = p.records();
    p.backfill(&[&path]).ends(0).says(&["0 read, 1 with nothing new", "0 written", "nothing new: all of it was read before"]);
    p.backfill(&[&p.path("logs")]).ends(0).says(&["nothing new"]);
    assert_eq!(p.records(), before);
}

#[test]
fn a_compressed_copy_adds_nothing_and_says_so() {
    let text = log(0, 400);
    let p = Place::new();
    let path = p.put("logs/mail.log", &text);
    p.backfill(&[&path]).ends(0);
    let before = p.records();
    let zst = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(text.as_bytes()).unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(text.as_bytes()).unwrap();
    // Known by content, whatever the name says.
    let copies =
        [("mail.log.2.gz", gzip(text.as_bytes())), ("old/mail.zst", zst), ("m.xz", xz.finish().unwrap()), ("plain", bz.finish().unwrap())];
    for (name, bytes) in copies {
        let copy = p.put(&format!("logs/{name}"), bytes);
        p.backfill(&[&copy]).ends(0).says(&["0 written", "nothing new"]);
    }
    p.backfill(&[&p.path("logs")]).ends(0).says(&["nothing new"]);
    assert_eq!(p.records(), before);
    // Renamed, and grown since.
    fs::rename(&path, p.path("logs/mail.log.1")).unwrap();
    p.backfill(&[&p.path("logs/mail.log.1")]).ends(0).says(&["nothing new"]);
    fs::write(p.path("logs/mail.log.1"), log(0, 402)).unwrap();
    p.backfill(&[&p.path("logs/mail.log.1")]).ends(0).says(&["2 written"]);
    p.holds(&log(0, 402));
}

fn from_stdin(p: &Place, bytes: &[u8], more: &[&Path]) -> Run {
    let mut c = command(&p.index());
    c.args(["backfill", "--year", "2026", "-"]).args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = c.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bytes).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().into()
}

#[test]
fn standard_input_is_read_and_twice_is_once() {
    let p = Place::new();
    let text = log(0, 20);
    from_stdin(&p, text.as_bytes(), &[]).ends(0).says(&["20 written"]);
    p.holds(&text);
    from_stdin(&p, &gzip(text.as_bytes()), &[]).ends(0);
    p.holds(&text);
    let file = p.put("mail.log", log(20, 22));
    from_stdin(&p, b"", &[&file]).ends(0).says(&["2 written"]);
    from_stdin(&p, b"\0\x01\x02binary", &[&file]).ends(2).says(&["binary data"]);
}

#[test]
fn a_file_reached_twice_is_read_once() {
    let p = Place::new();
    let path = p.put("logs/mail.log", log(0, 20));
    symlink(&path, p.path("logs/current")).unwrap();
    symlink(p.path("logs"), p.path("same")).unwrap();
    fs::hard_link(&path, p.path("logs/hard.log")).unwrap();
    symlink(p.path("logs"), p.path("logs/loop")).unwrap();
    let all = [path.as_path(), path.as_path(), &p.path("logs/current"), &p.path("logs"), &p.path("same"), &p.path("logs/hard.log")];
    p.backfill(&all).ends(0).says(&["1 read", "lines      100 ", "20 written"]);
    p.holds(&log(0, 20));
    p.backfill(&[&p.path("logs/current")]).ends(0).says(&["nothing new"]);
}

#[test]
fn no_index_is_said_with_what_to_do() {
    let p = Place::new();
    let commands: [&[&str]; 6] = [&["search"], &["search", "--json"], &["trace", "m1@x.example"], &["stats"], &["stuck"], &["verify"]];
    for c in commands {
        let r = p.run(c).ends(2).says(&["no index in", "msgtrk backfill", "--index"]);
        assert!(r.err.contains(p.index().to_str().unwrap()) && r.out.is_empty(), "{c:?}");
        assert!(!p.index().exists(), "{c:?} makes no index");
    }
}

#[test]
fn an_empty_index_says_that_it_is_empty() {
    let p = Place::new();
    p.backfill(&[&p.put("empty.log", "")]).ends(0);
    p.run(&["search"]).ends(1).says(&["the index is empty", "msgtrk backfill"]);
    p.run(&["trace", "m1@x.example"]).ends(1).says(&["the index is empty"]);
    let r = p.run(&["trace", "m1@x.example", "--json"]).ends(1);
    let v: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!(v["records"], serde_json::json!([]));
    assert!(p.run(&["stats"]).ends(0).out.contains("the index is empty"));
    p.run(&["stats", "--json"]).ends(0);
    p.run(&["stuck"]).ends(1).says(&["nothing is queued"]);
    p.run(&["verify"]).ends(0);
}

#[test]
fn an_empty_answer_says_what_was_searched() {
    let p = Place::new();
    let quiet = log(0, 2) + &log(2, 4).replace(" 08:", " 14:");
    p.backfill(&[&p.put("mail.log", quiet)]).ends(0);
    for c in [
        &["search", "--from", "nobody@x.example"][..],
        &["trace", "nothing@x.example"],
        &["search", "--rejects"],
        &["search", "--csv", "--host", "mx9"],
    ] {
        let r = p.run(c).ends(1).says(&["nothing found", "mx1", "2026-03-02 08:00:00", "2026-03-02 14:00:03"]);
        assert!(r.err.contains("no lines of mx1 from 2026-03-02 08:00:01 to 2026-03-02 14:00:02"), "{c:?}: {}", r.err);
    }
    let r = p.run(&["search", "--since", "2026-03-02 09:00", "--until", "2026-03-02 13:00"]).ends(1);
    assert!(r.err.contains("no lines of mx1 from 2026-03-02 09:00:00 to 2026-03-02 13:00:00"), "{}", r.err);
}

#[test]
fn whoever_has_seen_enough_is_no_error() {
    let p = Place::new();
    p.backfill(&[&p.put("mail.log", log(0, 1500))]).ends(0);
    for args in [
        &["search", "--limit", "0"][..],
        &["search", "--limit", "0", "--json"],
        &["search", "--limit", "0", "--csv"],
        &["search", "--limit", "0", "--lines"],
    ] {
        let mut child = command(&p.index()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut some = [0; 100];
        out.read_exact(&mut some).unwrap();
        drop(out);
        let r = Run::from(child.wait_with_output().unwrap()).ends(0);
        assert!(!r.err.contains("roken pipe"), "{args:?}: {}", r.err);
    }
    let all = Command::new("sh")
        .args(["-c", "\"$0\" --index \"$1\" search --limit 0 | head -1", env!("CARGO_BIN_EXE_msgtrk")])
        .arg(p.index())
        .output()
        .unwrap();
    let r = Run::from(all).ends(0);
    assert_eq!((r.out.lines().count(), r.err.as_str()), (1, ""));
}

#[test]
fn words_that_mean_nothing_end_with_2_and_say_which() {
    let p = Place::new();
    p.backfill(&[&p.put("mail.log", log(0, 1))]).ends(0);
    let wrong: [(&[&str], &str); 12] = [
        (&["search", "--colour", "red"], "--colour"),
        (&["--nonsense"], "--nonsense"),
        (&["frobnicate"], "frobnicate"),
        (&["backfill"], "<PATH>"),
        (&["trace"], "<ID>"),
        (&["search", "--since", "soon"], "`soon` is no time: use 2h"),
        (&["search", "--size", "big"], "`big` is no size: use 10K"),
        (&["search", "--action", "eaten"], "known are"),
        (&["search", "--limit", "many"], "many"),
        (&["search", "--json", "--csv"], "--csv"),
        (&["--timezone", "Mars/Phobos", "search"], "Mars/Phobos"),
        (&["--config", "/nonexistent/msgtrk.toml", "search"], "/nonexistent/msgtrk.toml"),
    ];
    for (args, word) in wrong {
        let r = p.run(args).ends(2).says(&[word]);
        assert!(r.out.is_empty(), "{args:?}");
    }
    assert_eq!(p.run(&[]).code, 2);
}

#[test]
fn all_kinds_of_rubbish_in_one_folder_leave_the_good_log_whole() {
    let p = Place::new();
    let text = log(0, 40);
    let packed = gzip(log(40, 400).as_bytes());
    p.put("logs/mail.log", &text);
    p.put("logs/a.bin", [0, 1, 2, 3].repeat(100));
    p.put("logs/b.gz", &packed[..packed.len() / 2]);
    p.put("logs/c.txt", "no log\n");
    p.put("logs/d.log", "");
    p.put("logs/e.log", "Z".repeat(2 << 20));
    p.put("logs/f.log", b"\xff".repeat(5000));
    p.put("logs/system.journal", "LPKSHHRH");
    p.put("logs/g.log", "Mar  2 08:00:00 mx1 postfix/smtp[1]: ".repeat(3000));
    p.put("logs/h.log", "Feb 31 25:61:61 mx1 postfix/qmgr[1]: AAAAAAAAAA: removed\n".repeat(50));
    symlink("nowhere", p.path("logs/i.log")).unwrap();
    Command::new("mkfifo").arg(p.path("logs/fifo")).status().unwrap();
    let r = p.backfill(&[&p.path("logs")]).ends(2).says(&["a.bin", "b.gz", "i.log"]);
    assert!(r.err.lines().count() < 40, "{}", r.err);
    let all = p.records();
    assert!(plainly(&text).iter().all(|r| all.contains(r)));
    p.run(&["verify"]).ends(0);
}

/// Two indexes hold the same; else the first difference.
#[track_caller]
fn same(a: &[(String, Vec<u8>)], b: &[(String, Vec<u8>)]) {
    let show = |r: Option<&(String, Vec<u8>)>| r.map(|r| format!("{}\n{}", r.0, String::from_utf8_lossy(&r.1).replace("Mar ", "\nMar ")));
    let at = (0..a.len().max(b.len())).find(|&i| a.get(i) != b.get(i));
    if let Some(i) = at {
        panic!("record {i} of {} and {} differs:\n{:?}\n{:?}", a.len(), b.len(), show(a.get(i)), show(b.get(i)));
    }
}
