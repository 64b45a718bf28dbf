//! The site that `genlog` writes of: its lines in the order of time, and the truth about each message.
//!
//! Benches use it, too. Same options, same bytes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use clap::ValueEnum;
use std::collections::VecDeque;
use std::io::{self, Write};

/// What is written.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Form of the stamps.
    pub stamp: Stamp,
    /// Messages a second of log time.
    pub rate: f64,
    /// Postfix's short queue ids, which are used again.
    pub short_ids: bool,
    /// Whose lines.
    pub mta: Mta,
}

impl Default for Options {
    fn default() -> Self {
        Options { seed: 1, stamp: Stamp::Rfc3164, rate: 50.0, short_ids: false, mta: Mta::Postfix }
    }
}

/// What a line begins with.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Stamp {
    /// As rsyslog writes by default: no year, no zone.
    Rfc3164,
    /// As rsyslog writes on Debian: microseconds and zone.
    Rfc3339,
    /// Exim's own main log: no host, no program, and no lines of others. For an Exim host only.
    Mainlog,
}

/// Whose lines are written.
#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Mta {
    /// Two Postfix MX with amavis, a store of Postfix and Dovecot.
    Postfix,
    /// One Exim host; one message of five bears an envelope id, written by an ACL.
    Exim,
    /// One Sendmail host.
    Sendmail,
    /// Of ten messages five are Postfix's, three Exim's, two Sendmail's.
    Mixed,
    /// No message at all: sshd, imap-login, cron.
    Unrelated,
}

/// Begin of log time: 2026-03-02 08:00:00 UTC.
const START: u64 = 1_772_438_400;
const ALNUM: &[u8] = b"bcdfghjklmnpqrstvwxyzBCDFGHJKLMNPQRSTVWXYZ0123456789";
const FIRST: [&str; 10] = ["ann", "bo", "chi", "dev", "eva", "fay", "gus", "hal", "ivo", "jo"];
const LAST: [&str; 10] = ["adams", "berg", "cruz", "dahl", "engel", "frost", "gold", "hart", "ito", "jung"];
const KIND: [&str; 5] = ["shop", "mail", "corp", "uni", "news"];
const LOCAL: &str = "example.org";
const HOSTS: [&str; 4] = ["mx1", "mx2", "store1", "elsewhere"];

/// xoshiro256**.
struct Rng([u64; 4]);

impl Rng {
    fn new(seed: u64) -> Self {
        let mut s = seed;
        let mut next = || {
            s = s.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (s ^ (s >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        };
        Rng([next(), next(), next(), next()])
    }

    fn bits(&mut self) -> u64 {
        let s = &mut self.0;
        let out = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        out
    }

    fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    fn part(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Seconds to the next event that comes `rate` times a second.
    fn wait(&mut self, rate: f64) -> f64 {
        -(1.0 - self.part()).ln() / rate
    }

    fn word(&mut self, n: usize) -> String {
        let mut out = String::with_capacity(n);
        let mut bits = 0;
        for i in 0..n {
            if i % 8 == 0 {
                bits = self.bits();
            }
            out.push(char::from(ALNUM[(bits & 0xff) as usize * ALNUM.len() / 256]));
            bits >>= 8;
        }
        out
    }

    fn person(&mut self) -> String {
        let n = self.below(100) as usize;
        [FIRST[n / 10], ".", LAST[n % 10]].concat()
    }

    fn domain(&mut self) -> String {
        let n = self.below(2000);
        format!("{}{}.example", KIND[(n % 5) as usize], n / 5)
    }

    fn ip(&mut self) -> String {
        let bits = self.below(100 * 254);
        format!("198.51.{}.{}", bits / 254, 1 + bits % 254)
    }
}

/// Microseconds of log time whose lines wait together.
const SPAN: u64 = 100_000;

/// Lines that wait for their time: their text, and when and where each begins.
#[derive(Default)]
struct Bucket {
    text: Vec<u8>,
    lines: Vec<(u64, u32, u32)>,
}

impl Bucket {
    /// Writes the lines in the order of their times, those of one time as they were made, and is empty then.
    fn flush(&mut self, out: &mut impl Write) -> io::Result<u64> {
        self.lines.sort_by_key(|l| l.0);
        for (_, start, end) in self.lines.drain(..) {
            out.write_all(&self.text[start as usize..end as usize])?;
        }
        let wrote = self.text.len() as u64;
        self.text.clear();
        Ok(wrote)
    }
}

/// The generator.
pub struct Site {
    rng: Rng,
    options: Options,
    /// Log time, seconds since its begin.
    now: f64,
    /// The first bucket begins here, in buckets since the begin of log time.
    first: u64,
    buckets: VecDeque<Bucket>,
    /// Emptied ones.
    spare: Vec<Bucket>,
    /// Time of the latest line of the message being written.
    latest: u64,
    /// Where the present line's text begins in its bucket.
    begun: u32,
    messages: u64,
    lines: u64,
    hops: u64,
    /// Lines before the present message.
    told: u64,
    /// Short ids that were let go, by host.
    retired: [VecDeque<(u64, String)>; 4],
    stamp: (u64, String),
    truth: Option<Box<dyn Write>>,
}

/// What was written.
#[derive(Debug, Default, Clone, Copy)]
pub struct Wrote {
    /// Bytes of log.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
    /// Messages that clients handed in.
    pub messages: u64,
    /// Messages at an MTA, notifications among them: records that are no rejects and no witnesses.
    pub hops: u64,
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6) as u64
}

/// Year, month, day of days since 1970.
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

macro_rules! say {
    ($site:expr, $t:expr, $host:expr, $prog:expr, $pid:expr, $($text:tt)*) => {{
        let at: u64 = $t;
        let bucket = $site.begin(at, $host, $prog, $pid);
        let _ = write!($site.buckets[bucket].text, $($text)*);
        $site.end(at, bucket);
    }};
}

/// Writes a number: the digits' way is much shorter than that of `write!`.
fn push_number(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

impl Site {
    /// A site before its first message. The truth is one JSON object a message, its last state at the end of the log.
    pub fn new(options: Options, truth: Option<Box<dyn Write>>) -> Self {
        Site {
            rng: Rng::new(options.seed),
            options,
            now: 0.0,
            first: 0,
            buckets: VecDeque::new(),
            spare: Vec::new(),
            latest: 0,
            begun: 0,
            messages: 0,
            lines: 0,
            hops: 0,
            told: 0,
            retired: Default::default(),
            stamp: (u64::MAX, String::new()),
            truth,
        }
    }

    /// Writes a log of about so many bytes, to its end.
    pub fn write(mut self, bytes: u64, out: &mut impl Write) -> io::Result<Wrote> {
        let mut wrote = 0;
        while wrote < bytes {
            self.now += self.rng.wait(self.options.rate);
            let now = micros(self.now);
            self.message(now);
            // What is older than the present message can no longer change.
            while (self.first + 1) * SPAN <= now {
                wrote += self.flush_first(out)?;
            }
        }
        while !self.buckets.is_empty() {
            wrote += self.flush_first(out)?;
        }
        if let Some(truth) = &mut self.truth {
            truth.flush()?;
        }
        Ok(Wrote { bytes: wrote, lines: self.lines, messages: self.messages, hops: self.hops })
    }

    fn flush_first(&mut self, out: &mut impl Write) -> io::Result<u64> {
        self.first += 1;
        let Some(mut bucket) = self.buckets.pop_front() else { return Ok(0) };
        let wrote = bucket.flush(out)?;
        // Its memory serves the next bucket that is begun.
        if self.spare.len() < 64 {
            self.spare.push(bucket);
        }
        Ok(wrote)
    }

    fn message(&mut self, now: u64) {
        (self.latest, self.told) = (now, self.lines);
        let mta = match self.options.mta {
            Mta::Mixed => match self.rng.below(10) {
                0..5 => Mta::Postfix,
                5..8 => Mta::Exim,
                _ => Mta::Sendmail,
            },
            mta => mta,
        };
        match mta {
            Mta::Unrelated => return self.unrelated(now),
            Mta::Exim => self.exim(now),
            Mta::Sendmail => self.sendmail(now),
            Mta::Postfix | Mta::Mixed => self.postfix(now),
        }
        self.messages += 1;
        if self.options.stamp != Stamp::Mainlog && self.rng.part() < 0.8 {
            self.noise(now);
        }
    }

    fn begin(&mut self, t: u64, host: &str, program: &str, pid: u64) -> usize {
        let second = START + t / 1_000_000;
        if self.stamp.0 != second {
            let (y, m, d) = civil((second / 86_400) as i64);
            let s = second % 86_400;
            let clock = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
            self.stamp = (
                second,
                match self.options.stamp {
                    Stamp::Rfc3164 => format!("{} {d:>2} {clock}", MONTHS[m as usize - 1]),
                    Stamp::Rfc3339 => format!("{y}-{m:02}-{d:02}T{clock}"),
                    Stamp::Mainlog => format!("{y}-{m:02}-{d:02} {clock} "),
                },
            );
        }
        let at = (t / SPAN).saturating_sub(self.first) as usize;
        while self.buckets.len() <= at {
            self.buckets.push_back(Bucket::default());
        }
        if self.buckets[at].text.capacity() == 0
            && let Some(spare) = self.spare.pop()
        {
            self.buckets[at] = spare;
        }
        let text = &mut self.buckets[at].text;
        self.begun = text.len() as u32;
        text.extend_from_slice(self.stamp.1.as_bytes());
        match self.options.stamp {
            Stamp::Mainlog => return at,
            Stamp::Rfc3339 => write!(text, ".{:06}+00:00", t % 1_000_000).unwrap(),
            Stamp::Rfc3164 => {}
        }
        for part in [" ", host, " ", program, "["] {
            text.extend_from_slice(part.as_bytes());
        }
        push_number(text, pid + self.messages % 40);
        text.extend_from_slice(b"]: ");
        at
    }

    fn end(&mut self, t: u64, at: usize) {
        let bucket = &mut self.buckets[at];
        bucket.text.push(b'\n');
        bucket.lines.push((t, self.begun, bucket.text.len() as u32));
        self.latest = self.latest.max(t);
        self.lines += 1;
    }

    /// Lines that have nothing to do with mail under way.
    fn unrelated(&mut self, t: u64) {
        let host = HOSTS[self.rng.below(3) as usize];
        let (k, ip, port) = (self.rng.part(), self.rng.ip(), 1024 + self.rng.below(64_000));
        if k < 0.4 {
            say!(self, t, host, "sshd", 5000, "Received disconnect from {ip} port {port}:11: Bye Bye [preauth]");
        } else if k < 0.8 {
            self.imap_login(t, &ip, port);
        } else {
            say!(self, t, host, "CRON", 6000 + port, "(root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)");
        }
    }

    fn imap_login(&mut self, t: u64, ip: &str, port: u64) {
        let (person, session) = (self.rng.person(), self.rng.word(16));
        say!(
            self,
            t,
            "store1",
            "dovecot",
            900,
            "imap-login: Login: user=<{person}>, method=PLAIN, rip={ip}, lip=192.0.2.9, mpid={port}, TLS, session=<{session}>"
        );
    }

    fn queue_id(&mut self, t: u64, host: usize) -> String {
        if !self.options.short_ids {
            let (a, b) = (self.rng.word(13), self.rng.word(2));
            return ["4", &a, "z", &b].concat();
        }
        let free = self.retired[host].front().is_some_and(|(at, _)| at + 5_000_000 < t);
        if free && self.rng.part() < 0.02 {
            return self.retired[host].pop_front().unwrap().1;
        }
        format!("{:010X}", self.rng.bits() & 0xff_ffff_ffff)
    }

    fn noise(&mut self, t: u64) {
        let host = HOSTS[self.rng.below(3) as usize];
        let (k, ip, port) = (self.rng.part(), self.rng.ip(), 1024 + self.rng.below(64_000));
        let person = self.rng.person();
        if k < 0.35 {
            say!(self, t, host, "postfix/smtpd", 2000, "connect from unknown[{ip}]");
            say!(self, t + 200_000, host, "postfix/smtpd", 2000, "lost connection after AUTH from unknown[{ip}]");
            say!(self, t + 200_000, host, "postfix/smtpd", 2000, "disconnect from unknown[{ip}] ehlo=1 auth=0/1 commands=1/2");
        } else if k < 0.55 {
            self.imap_login(t, &ip, port);
        } else if k < 0.75 {
            say!(self, t, host, "postfix/postscreen", 3000, "CONNECT from [{ip}]:{port} to [192.0.2.10]:25");
            say!(self, t + 100_000, host, "postfix/postscreen", 3000, "PASS OLD [{ip}]:{port}");
        } else if k < 0.9 {
            say!(self, t, host, "sshd", 5000, "Received disconnect from {ip} port {port}:11: Bye Bye [preauth]");
        } else {
            let (d, to) = (self.rng.domain(), self.rng.person());
            say!(
                self,
                t,
                host,
                "postfix/smtpd",
                2000,
                "NOQUEUE: reject: RCPT from unknown[{ip}]: 554 5.7.1 <{person}@{LOCAL}>: Relay access denied; from=<spam@{d}> to=<{to}@elsewhere.example> proto=ESMTP helo=<{d}>"
            );
        }
    }

    /// Sender, recipients, Message-ID, domain of the other side.
    fn letter(&mut self, outbound: bool) -> (String, Vec<String>, String, String) {
        let domain = self.rng.domain();
        let many = if self.rng.part() < 0.8 { 1 } else { 2 + self.rng.below(4) };
        let mut to: Vec<String> = Vec::new();
        for _ in 0..many {
            let d = if outbound { self.rng.domain() } else { LOCAL.into() };
            let address = [&self.rng.person(), "@", &d].concat();
            if !to.contains(&address) {
                to.push(address);
            }
        }
        let from = match outbound {
            true => [&self.rng.person(), "@", LOCAL].concat(),
            false if self.rng.part() < 0.95 => [&self.rng.person(), "@", &domain].concat(),
            false => String::new(),
        };
        let at = if outbound { LOCAL } else { &domain };
        let id = format!("{:x}.{:012x}@{at}", self.messages, self.rng.bits() >> 16);
        (from, to, id, domain)
    }

    fn postfix(&mut self, t: u64) {
        let outbound = self.rng.part() < 0.4;
        let m = self.rng.below(2) as usize;
        let mx = HOSTS[m];
        let (from, to, id, domain) = self.letter(outbound);
        let (ip, n) = (self.rng.ip(), to.len());
        let size = 2000 + micros(self.rng.wait(1.0 / 0.03)) / 1000;
        let (q1, q2) = (self.queue_id(t, m), self.queue_id(t, m));
        let client = match outbound {
            true => format!("client{}.{LOCAL}[{ip}]", self.rng.below(99)),
            false => format!("mail.{domain}[{ip}]"),
        };
        let login =
            if outbound { format!(", sasl_method=PLAIN, sasl_username={}", from.split('@').next().unwrap()) } else { String::new() };
        let (smtpd, cleanup, qmgr, smtp) = ("postfix/smtpd", "postfix/cleanup", "postfix/qmgr", "postfix/smtp");
        say!(self, t, mx, smtpd, 2000, "connect from {client}");
        if self.rng.part() < 0.7 {
            say!(
                self,
                t + 50_000,
                mx,
                smtpd,
                2000,
                "Anonymous TLS connection established from {client}: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange X25519 server-signature RSA-PSS (2048 bits) server-digest SHA256"
            );
        }
        say!(self, t + 100_000, mx, smtpd, 2000, "{q1}: client={client}{login}");
        say!(self, t + 120_000, mx, cleanup, 2100, "{q1}: message-id=<{id}>");
        say!(self, t + 200_000, mx, qmgr, 700, "{q1}: from=<{from}>, size={size}, nrcpt={n} (queue active)");
        say!(
            self,
            t + 200_000,
            mx,
            smtpd,
            2000,
            "disconnect from {client} ehlo=2 starttls=1 mail=1 rcpt={n} data=1 quit=1 commands={}",
            5 + n
        );
        let u = t + 300_000 + micros(self.rng.wait(2.0));
        let took = (u - t) as f64 / 1e6;
        say!(self, u, mx, smtpd, 2000, "connect from localhost[127.0.0.1]");
        say!(self, u + 10_000, mx, smtpd, 2000, "{q2}: client=localhost[127.0.0.1], orig_queue_id={q1}, orig_client={client}");
        say!(self, u + 20_000, mx, cleanup, 2100, "{q2}: message-id=<{id}>");
        say!(
            self,
            u + 30_000,
            mx,
            smtpd,
            2000,
            "disconnect from localhost[127.0.0.1] ehlo=1 xforward=1 mail=1 rcpt=1 data=1 quit=1 commands=6"
        );
        say!(self, u + 30_000, mx, qmgr, 700, "{q2}: from=<{from}>, size={}, nrcpt={n} (queue active)", size + 440);
        let list = to.iter().map(|a| format!("<{a}>")).collect::<Vec<_>>().join(",");
        let (a, b, port, mail, hits) =
            (self.rng.below(9999), self.rng.below(20), 1024 + self.rng.below(64_000), self.rng.word(12), self.rng.part() * 4.0 - 2.0);
        say!(
            self,
            u + 40_000,
            mx,
            "amavis",
            1500,
            "({a:05}-{b:02}) Passed CLEAN {{RelayedInbound}}, [{ip}]:{port} [{ip}] <{from}> -> {list}, Queue-ID: {q1}, Message-ID: <{id}>, mail_id: {mail}, Hits: {hits:.3}, size: {size}, queued_as: {q2}, {} ms",
            u / 1000 % 900
        );
        for r in &to {
            say!(
                self,
                u + 50_000,
                mx,
                smtp,
                2200,
                "{q1}: to=<{r}>, relay=127.0.0.1[127.0.0.1]:10024, delay={took:.2}, delays=0.1/0.01/0.01/{took:.2}, dsn=2.0.0, status=sent (250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as {q2})"
            );
        }
        say!(self, u + 60_000, mx, qmgr, 700, "{q1}: removed");
        let mut hosts = vec![(mx, q1), (mx, q2.clone())];
        let ends = match outbound {
            true => self.send_out(u, m, &q2, &from, &to, size),
            false => self.send_in(u, m, &q2, &from, &to, size, &id, &mut hosts),
        };
        for (host, id) in hosts.iter().filter(|_| self.options.short_ids) {
            let place = HOSTS.iter().position(|h| h == host).unwrap();
            self.retired[place].push_back((self.latest, id.clone()));
            if self.retired[place].len() > 500 {
                self.retired[place].pop_front();
            }
        }
        self.tell(t, &id, &from, &hosts, &ends);
    }

    fn send_out(&mut self, u: u64, m: usize, q2: &str, from: &str, to: &[String], size: u64) -> Vec<End> {
        let (mx, smtp, qmgr, n) = (HOSTS[m], "postfix/smtp", "postfix/qmgr", to.len());
        let (mut ends, mut done) = (Vec::new(), u);
        for r in to {
            let mut v = u + 200_000 + micros(self.rng.wait(1.0));
            let (next, rip, k) = (format!("mx.{}", r.split('@').nth(1).unwrap()), self.rng.ip(), self.rng.part());
            let mut tries = 0;
            while self.rng.part() < 0.06 && tries < 3 {
                let delay = (v - u) as f64 / 1e6;
                say!(
                    self,
                    v,
                    mx,
                    smtp,
                    2200,
                    "{q2}: to=<{r}>, relay={next}[{rip}]:25, delay={delay:.2}, delays=0.1/0.02/1.2/0.3, dsn=4.7.1, status=deferred (host {next}[{rip}] said: 450 4.7.1 <{r}>: Recipient address rejected: Greylisted (in reply to RCPT TO command))"
                );
                tries += 1;
                v += 300_000_000 << tries;
                say!(self, v - 100_000, mx, qmgr, 700, "{q2}: from=<{from}>, size={}, nrcpt={n} (queue active)", size + 440);
            }
            let delay = (v - u) as f64 / 1e6;
            if k < 0.04 {
                say!(
                    self,
                    v,
                    mx,
                    smtp,
                    2200,
                    "{q2}: to=<{r}>, relay={next}[{rip}]:25, delay={delay:.2}, delays=0.1/0.02/1.2/0.3, dsn=5.1.1, status=bounced (host {next}[{rip}] said: 550 5.1.1 <{r}>: Recipient address rejected: User unknown (in reply to RCPT TO command))"
                );
                let (q3, other) = (self.queue_id(v, m), self.queue_id(v, 3));
                say!(self, v + 20_000, mx, "postfix/cleanup", 2100, "{q3}: message-id=<{q3}.{q2}@{mx}.{LOCAL}>");
                say!(self, v + 30_000, mx, "postfix/bounce", 2300, "{q2}: sender non-delivery notification: {q3}");
                say!(self, v + 40_000, mx, qmgr, 700, "{q3}: from=<>, size=3300, nrcpt=1 (queue active)");
                say!(
                    self,
                    v + 60_000,
                    mx,
                    smtp,
                    2200,
                    "{q3}: to=<{from}>, relay=store1.{LOCAL}[192.0.2.9]:25, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {other})"
                );
                say!(self, v + 70_000, mx, qmgr, 700, "{q3}: removed");
                self.hops += 1;
                ends.push(End { address: r.clone(), action: "failed", status: "5.1.1", remote: None });
            } else {
                let remote = self.queue_id(v, 3);
                say!(
                    self,
                    v,
                    mx,
                    smtp,
                    2200,
                    "{q2}: to=<{r}>, relay={next}[{rip}]:25, delay={delay:.2}, delays=0.1/0.02/1.2/0.3, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {remote})"
                );
                ends.push(End { address: r.clone(), action: "relayed", status: "2.0.0", remote: Some(remote) });
            }
            done = done.max(v);
        }
        say!(self, done + 10_000, mx, qmgr, 700, "{q2}: removed");
        ends
    }

    #[allow(clippy::too_many_arguments)]
    fn send_in(
        &mut self,
        u: u64,
        m: usize,
        q2: &str,
        from: &str,
        to: &[String],
        size: u64,
        id: &str,
        hosts: &mut Vec<(&'static str, String)>,
    ) -> Vec<End> {
        let (mx, n, v) = (HOSTS[m], to.len(), u + 300_000);
        let q3 = self.queue_id(u, 2);
        let client = format!("{mx}.{LOCAL}[192.0.2.{}]", 10 + m);
        say!(self, v, "store1", "postfix/smtpd", 2000, "connect from {client}");
        say!(self, v + 10_000, "store1", "postfix/smtpd", 2000, "{q3}: client={client}");
        say!(self, v + 20_000, "store1", "postfix/cleanup", 2100, "{q3}: message-id=<{id}>");
        say!(self, v + 30_000, "store1", "postfix/qmgr", 700, "{q3}: from=<{from}>, size={}, nrcpt={n} (queue active)", size + 700);
        for r in to {
            say!(
                self,
                v + 40_000,
                mx,
                "postfix/smtp",
                2200,
                "{q2}: to=<{r}>, relay=store1.{LOCAL}[192.0.2.9]:25, delay=0.3, delays=0.1/0/0.01/0.04, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {q3})"
            );
        }
        say!(self, v + 50_000, mx, "postfix/qmgr", 700, "{q2}: removed");
        let mut ends = Vec::new();
        let mut done = v;
        for r in to {
            let w = v + 100_000 + micros(self.rng.wait(5.0));
            done = done.max(w);
            if self.rng.part() < 0.01 {
                say!(
                    self,
                    w,
                    "store1",
                    "postfix/lmtp",
                    2400,
                    "{q3}: to=<{r}>, relay=store1.{LOCAL}[private/dovecot-lmtp], delay=0.2, delays=0.1/0/0/0.1, dsn=5.2.2, status=bounced (host store1.{LOCAL}[private/dovecot-lmtp] said: 552 5.2.2 <{r}> Quota exceeded (mailbox for user is full) (in reply to end of DATA command))"
                );
                ends.push(End { address: r.clone(), action: "failed", status: "5.2.2", remote: None });
            } else {
                let session = self.rng.word(22);
                say!(self, w, "store1", "dovecot", 900, "lmtp({r})<2500><{session}>: msgid=<{id}>: saved mail to INBOX");
                say!(
                    self,
                    w + 10_000,
                    "store1",
                    "postfix/lmtp",
                    2400,
                    "{q3}: to=<{r}>, relay=store1.{LOCAL}[private/dovecot-lmtp], delay=0.2, delays=0.1/0/0/0.1, dsn=2.0.0, status=sent (250 2.0.0 <{r}> {session} Saved)"
                );
                ends.push(End { address: r.clone(), action: "delivered", status: "2.0.0", remote: None });
            }
        }
        say!(self, done + 20_000, "store1", "postfix/qmgr", 700, "{q3}: removed");
        hosts.push(("store1", q3));
        ends
    }

    /// Exim's ids are made of second, process and a fraction, in base 62.
    fn exim_id(&mut self, t: u64) -> String {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let base = |mut n: u64, digits: usize| {
            let mut out = vec![b'0'; digits];
            for d in out.iter_mut().rev() {
                *d = DIGITS[(n % 62) as usize];
                n /= 62;
            }
            String::from_utf8(out).unwrap()
        };
        format!("{}-{}-{}", base(START + t / 1_000_000, 6), base(self.messages, 6), base(t % 1_000_000 / 500, 2))
    }

    fn exim(&mut self, t: u64) {
        let outbound = self.rng.part() < 0.4;
        let (from, to, id, domain) = self.letter(outbound);
        let q = self.exim_id(t);
        let (ip, size) = (self.rng.ip(), 2000 + micros(self.rng.wait(1.0 / 0.03)) / 1000);
        let sender = if from.is_empty() { "<>" } else { &from };
        let (host, program) = ("exim1", "exim");
        if self.messages.is_multiple_of(5) {
            let tag = self.rng.word(10);
            say!(self, t, host, program, 800, "{q} {q} envid=QQclient.{tag}");
        }
        let auth = if outbound { format!(" A=plain:{}", from.split('@').next().unwrap()) } else { String::new() };
        say!(
            self,
            t,
            host,
            program,
            800,
            "{q} <= {sender} H=mail.{domain} [{ip}] P=esmtps X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=no{auth} S={size} id={id}"
        );
        let (mut ends, mut done) = (Vec::new(), t);
        for (i, r) in to.iter().enumerate() {
            let mut v = t + 100_000 + micros(self.rng.wait(2.0));
            if !outbound {
                let word = if i == 0 { "=>" } else { "->" };
                let local = r.split('@').next().unwrap();
                say!(self, v, host, program, 810, "{q} {word} {local} <{r}> R=localuser T=maildir");
                ends.push(End { address: r.clone(), action: "delivered", status: "2.0.0", remote: None });
                done = done.max(v);
                continue;
            }
            let (next, rip, k) = (format!("mx.{}", r.split('@').nth(1).unwrap()), self.rng.ip(), self.rng.part());
            if k < 0.08 {
                say!(
                    self,
                    v,
                    host,
                    program,
                    810,
                    "{q} == {r} R=dns T=remote_smtp defer (-44) H={next} [{rip}]: SMTP error from remote mail server after RCPT TO:<{r}>: 450 4.7.1 <{r}>: Recipient address rejected: Greylisted"
                );
                v += 900_000_000;
            }
            if k < 0.04 {
                say!(
                    self,
                    v,
                    host,
                    program,
                    810,
                    "{q} ** {r} R=dns T=remote_smtp H={next} [{rip}]: SMTP error from remote mail server after RCPT TO:<{r}>: 550 5.1.1 <{r}>: Recipient address rejected: User unknown"
                );
                ends.push(End { address: r.clone(), action: "failed", status: "5.1.1", remote: None });
            } else {
                let remote = self.queue_id(v, 3);
                say!(
                    self,
                    v,
                    host,
                    program,
                    810,
                    "{q} => {r} R=dns T=remote_smtp H={next} [{rip}] X=TLS1.3:ECDHE_X25519__RSA_PSS_RSAE_SHA256__AES_256_GCM:256 CV=yes C=\"250 2.0.0 Ok: queued as {remote}\""
                );
                ends.push(End { address: r.clone(), action: "relayed", status: "2.0.0", remote: Some(remote) });
            }
            done = done.max(v);
        }
        say!(self, done + 10_000, host, program, 810, "{q} Completed");
        self.tell(t, &id, &from, &[(host, q)], &ends);
    }

    fn sendmail(&mut self, t: u64) {
        let outbound = self.rng.part() < 0.4;
        let (from, to, id, domain) = self.letter(outbound);
        let (q, n) = (self.sendmail_id(t), to.len());
        let (ip, size, pri) = (self.rng.ip(), 2000 + micros(self.rng.wait(1.0 / 0.03)) / 1000, 30_000 + self.rng.below(200_000));
        let (host, program) = ("sm1", "sm-mta");
        say!(
            self,
            t,
            host,
            program,
            1000,
            "{q}: from=<{from}>, size={size}, class=0, nrcpts={n}, msgid=<{id}>, proto=ESMTP, daemon=MTA-v4, relay=mail.{domain} [{ip}]"
        );
        let mut ends = Vec::new();
        for r in &to {
            let mut v = t + 100_000 + micros(self.rng.wait(2.0));
            if !outbound {
                let delay = (v - t) / 1_000_000;
                say!(
                    self,
                    v,
                    host,
                    program,
                    1010,
                    "{q}: to=<{r}>, delay=00:00:{delay:02}, xdelay=00:00:00, mailer=local, pri={pri}, dsn=2.0.0, stat=Sent"
                );
                ends.push(End { address: r.clone(), action: "delivered", status: "2.0.0", remote: None });
                continue;
            }
            let (next, rip, k) = (format!("mx.{}", r.split('@').nth(1).unwrap()), self.rng.ip(), self.rng.part());
            if k < 0.08 {
                say!(
                    self,
                    v,
                    host,
                    program,
                    1010,
                    "{q}: to=<{r}>, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri={pri}, relay={next}. [{rip}], dsn=4.7.1, reply=450 4.7.1 <{r}>: Recipient address rejected: Greylisted, stat=Deferred: 450 4.7.1 <{r}>: Recipient address rejected: Greylisted"
                );
                v += 900_000_000;
            }
            let delay = (v - t) / 1_000_000;
            let delay = format!("{:02}:{:02}:{:02}", delay / 3600, delay / 60 % 60, delay % 60);
            if k < 0.04 {
                say!(
                    self,
                    v,
                    host,
                    program,
                    1010,
                    "{q}: to=<{r}>, delay={delay}, xdelay=00:00:01, mailer=esmtp, pri={pri}, relay={next}. [{rip}], dsn=5.1.1, reply=550 5.1.1 <{r}>: Recipient address rejected: User unknown, stat=User unknown"
                );
                let (q2, other) = (self.sendmail_id(v), self.queue_id(v, 3));
                say!(self, v + 10_000, host, program, 1010, "{q}: {q2}: DSN: User unknown");
                say!(
                    self,
                    v + 20_000,
                    host,
                    program,
                    1010,
                    "{q2}: to=<{from}>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=30000, relay=store1.{LOCAL}. [192.0.2.9], dsn=2.0.0, stat=Sent (Ok: queued as {other})"
                );
                self.hops += 1;
                ends.push(End { address: r.clone(), action: "failed", status: "5.1.1", remote: None });
            } else {
                let remote = self.queue_id(v, 3);
                say!(
                    self,
                    v,
                    host,
                    program,
                    1010,
                    "{q}: to=<{r}>, delay={delay}, xdelay=00:00:01, mailer=esmtp, pri={pri}, relay={next}. [{rip}], dsn=2.0.0, stat=Sent (Ok: queued as {remote})"
                );
                ends.push(End { address: r.clone(), action: "relayed", status: "2.0.0", remote: Some(remote) });
            }
        }
        self.tell(t, &id, &from, &[(host, q)], &ends);
    }

    /// Sendmail's ids: year, month, day, hour, minute, second, a sequence of two letters, the process id.
    fn sendmail_id(&mut self, t: u64) -> String {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let (second, mut out) = (START + t / 1_000_000, String::with_capacity(14));
        let (y, m, d) = civil((second / 86_400) as i64);
        let digit = |n: u64| char::from(DIGITS[(n % 60) as usize]);
        let serial = self.hops + 60 * self.messages;
        let date =
            [(y.unsigned_abs() - 1900) % 60, m.unsigned_abs() - 1, d.unsigned_abs(), second % 86_400 / 3600, second / 60 % 60, second % 60];
        out.extend(date.into_iter().map(digit));
        out.extend([digit(serial / 60), digit(serial)]);
        out.push_str(&format!("{:06}", serial / 3600 % 1_000_000));
        out
    }

    fn tell(&mut self, t: u64, id: &str, from: &str, hosts: &[(&str, String)], ends: &[End]) {
        self.hops += hosts.len() as u64;
        let log_lines = self.lines - self.told;
        let Some(truth) = &mut self.truth else { return };
        let hosts: Vec<_> = hosts.iter().map(|(host, queue_id)| serde_json::json!({"host": host, "queue_id": queue_id})).collect();
        let recipients: Vec<_> = ends
            .iter()
            .map(|e| serde_json::json!({"address": e.address, "action": e.action, "status": e.status, "remote_queue_id": e.remote}))
            .collect();
        let (t, s) = (t + 100_000, (START + (t + 100_000) / 1_000_000));
        let (y, m, d) = civil((s / 86_400) as i64);
        let (hour, minute, second) = (s % 86_400 / 3600, s / 60 % 60, s % 60);
        let arrived = format!("{y}-{m:02}-{d:02}T{hour:02}:{minute:02}:{second:02}.{:06}+00:00", t % 1_000_000);
        let row = serde_json::json!({
            "message_id": id, "envelope_from": from, "arrived": arrived, "hosts": hosts, "recipients": recipients, "log_lines": log_lines
        });
        writeln!(truth, "{row}").unwrap();
    }
}

struct End {
    address: String,
    action: &'static str,
    status: &'static str,
    remote: Option<String>,
}
