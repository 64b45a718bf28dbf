//! A daemon that runs out of descriptors (BAR N5): it neither spins nor dies, and goes on when there are some again.

use crate::serve_support::{Place, action, address, append, eventually, long, message};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Seconds of processor time that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    // USER_HZ: what /proc counts in, on every Linux.
    ticks / 100.0
}

fn open_descriptors(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

fn greets(s: &TcpStream, within: Duration) -> bool {
    s.set_read_timeout(Some(within)).unwrap();
    let mut first = [0; 8];
    matches!((&*s).read(&mut first), Ok(n) if first[..n].starts_with(b"+OK"))
}

#[test]
fn n5_out_of_descriptors_it_neither_spins_nor_dies_and_answers_again() {
    let mut p = Place::new();
    let log = p.path("mail.log");
    append(&log, &message(1).concat());
    let said = p.path("stderr");
    let mut command = p.command(&["serve", "--watch", log.to_str().unwrap(), "--mtqp", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut p.ready).unwrap();
    let pid = child.id();
    p.daemon = Some(child);
    p.trace("m1@c.test", |t| action(t) == "relayed");
    // Eight more than it has now, whatever it has.
    let most = open_descriptors(pid) + 8;
    let limit = Rlimit { current: Some(most), maximum: Some(most) };
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, limit).unwrap();
    let to = address(&p.ready, "mtqp");
    // The kernel takes them all; the program can take eight at most.
    let clients: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(&to).unwrap()).collect();
    let failed = || std::fs::read_to_string(&said).unwrap().matches("a connection could not be taken").count();
    eventually("an accept that fails", || (failed() > 0).then_some(()));
    // A log goes on meanwhile.
    append(&log, &message(2).concat());
    let (begun, used, before) = (Instant::now(), cpu(pid), failed());
    std::thread::sleep(Duration::from_secs(3));
    let (took, used, tries) = (begun.elapsed().as_secs_f64(), cpu(pid) - used, failed() - before);
    // Pauses double from 10 ms to 5 s: ten tries in the first ten seconds. One that spins makes thousands.
    assert!(tries as f64 <= 12.0 + took, "{tries} tries in {took} s");
    assert!(used < took / 2.0, "{used} s of processor time in {took} s");
    assert!(!clients.iter().all(|c| greets(c, Duration::from_millis(1))), "it was never out of descriptors");
    drop(clients);
    // Alive, and answers again, within the longest pause.
    let until = Instant::now() + long();
    loop {
        let mut s = TcpStream::connect(&to).unwrap();
        if greets(&s, Duration::from_secs(2)) {
            s.write_all(b"QUIT\r\n").unwrap();
            let mut rest = String::new();
            s.read_to_string(&mut rest).unwrap();
            assert!(rest.ends_with("+OK bye\r\n"), "{rest}");
            break;
        }
        assert!(Instant::now() < until, "it does not answer again");
    }
    p.trace("m2@c.test", |t| action(t) == "relayed");
    p.signal("TERM");
    assert!(p.daemon.take().unwrap().wait().unwrap().success());
    let other = Place::new();
    assert!(
        Command::new(crate::serve_support::program())
            .env("TZ", "UTC")
            .arg("--index")
            .arg(other.path("index"))
            .args(["backfill", log.to_str().unwrap()])
            .output()
            .unwrap()
            .status
            .success()
    );
    assert_eq!(p.records(), other.records(), "every line counts, once");
}
