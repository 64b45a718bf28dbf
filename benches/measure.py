#!/usr/bin/env python3
"""What benches/compare.sh and benches/scale.sh have in common: runs programs, measures them, prints tables.

Python's standard library only. Everything is made in a folder below $TMPDIR that goes at the end.
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import NamedTuple

MIB = 1 << 20
TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RELEASE = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(TOP, "target")), "release")
MSGTRK = os.path.join(RELEASE, "msgtrk")
GENLOG = os.path.join(RELEASE, "examples", "genlog")


def number(name, default):
    return type(default)(os.environ.get(name, default))


SEED = number("SEED", 3)
# Messages a second of log time: ten million records are three days then.
RATE = number("RATE", 10.0)
# What is to stay free on the disk.
ROOM = int(number("ROOM_GIB", 2.0) * (1 << 30))


class Run(NamedTuple):
    """What a program took: seconds, seconds of all its threads, bytes of its own memory at the peak."""
    wall: float
    cpu: float
    peak: int


class Failed(Exception):
    """A program ended in another way than it should."""


def run(*command, stdin=None, check=(0,)):
    """Runs a program to its end, its output thrown away."""
    began = time.monotonic()
    errors = tempfile.TemporaryFile(dir=DIR)
    with stdin if hasattr(stdin, "fileno") else open(stdin or os.devnull, "rb") as fed:
        child = subprocess.Popen(command, stdin=fed, stdout=subprocess.DEVNULL, stderr=errors)
        own = Own(child.pid)
        _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in check:
        errors.seek(0)
        raise Failed(f"{' '.join(command)}: exit {child.returncode}\n{errors.read().decode(errors='replace')[-2000:]}")
    return Run(wall, used.ru_utime + used.ru_stime, own.peak or used.ru_maxrss * 1024)


class Own(threading.Thread):
    """The most memory of its own that a process has, looked at fifty times a second. What it maps of files is not counted: the
    system takes that back when it needs it."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.status, self.peak = f"/proc/{pid}/status", 0
        self.start()

    def run(self):
        try:
            while True:
                with open(self.status, encoding="ascii", errors="replace") as f:
                    text = f.read()
                self.peak = max(self.peak, int(text.split("RssAnon:")[1].split()[0]) * 1024)
                time.sleep(0.02)
        except (OSError, IndexError):
            pass


def says(*command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return done.stdout


def first_row(*command):
    """Seconds from the start of a program to the first byte of its output."""
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        byte = child.stdout.read(1)
        took = time.monotonic() - began
        child.stdout.read()
    if not byte:
        sys.exit(f"{' '.join(command)}: no output")
    return took


def median(values):
    return sorted(values)[len(values) // 2]


def forget(folder):
    """Takes a folder's files out of the system's cache, as far as it lets us."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                os.fsync(f.fileno())
                os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(path, n)) for n in os.listdir(path))


def genlog(out, mib, mta, *more):
    run(GENLOG, "--mib", str(mib), "--seed", str(SEED), "--mta", mta, "--out", out, *more)


def backfill(index, *paths, stdin=None):
    command = [MSGTRK, "--index", index, "--timezone", "UTC", "backfill", "--quiet", "--year", "2026", "--host", "exim1", *paths]
    return run(*command, stdin=stdin)


def backfill_piped(index, mib):
    """A log that is on no disk; what the generator takes is not counted but for the time it keeps us waiting."""
    args = [GENLOG, "--mib", str(mib), "--seed", str(SEED), "--out", "-"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as generator:
        return backfill(index, "-", stdin=generator.stdout)


def latencies(index):
    """The figures of benches/latency.rs: {name: {key: number}}."""
    rows = (line.split() for line in says(os.environ["LATENCY"], index).splitlines())
    return {row[0]: {k: float(v) for k, v in (pair.split("=") for pair in row[1:])} for row in rows if row and all("=" in p for p in row[1:])}


def free():
    return shutil.disk_usage(DIR).free


class Feed:
    """Builds an index of many records: the generator's log goes in by pieces, each deleted when it was read."""

    def __init__(self, index):
        self.index, self.records, self.bytes, self.wall, self.cpu, self.peak = index, 0, 0, 0.0, 0.0, 0
        self.mta = os.environ.get("MTA", "mixed")
        self.piece = number("PIECE_MIB", 1024) * MIB
        args = [GENLOG, "--mib", str(1 << 30), "--seed", str(SEED), "--mta", self.mta, "--rate", str(RATE), "--out", "-"]
        # It waits where nobody reads, and takes no time from what is measured then.
        self.generator = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.rest = b""

    def write(self, path, want):
        with open(path, "wb") as f:
            f.write(self.rest)
            while f.tell() < want:
                f.write(self.generator.stdout.read(MIB))
            chunk = self.generator.stdout.read(MIB)
            end = chunk.rindex(b"\n") + 1
            f.write(chunk[:end])
            self.rest = chunk[end:]

    def to(self, records):
        """Goes on until there are so many records; False where the disk has no room for them."""
        path = os.path.join(DIR, "piece.log")
        while self.records < records:
            a_record = self.bytes / self.records if self.records else 800
            want = min(self.piece, max(MIB, int((records - self.records) * a_record * 1.01)))
            # The piece, what comes of it, and as much again for merges.
            if free() < ROOM + 3 * want:
                return False
            self.write(path, want)
            self.bytes += os.path.getsize(path)
            took = backfill(self.index, path)
            os.unlink(path)
            self.wall, self.cpu, self.peak = self.wall + took.wall, self.cpu + took.cpu, max(self.peak, took.peak)
            figures = json.loads(says(MSGTRK, "--index", self.index, "stats", "--json"))
            self.records = records_of(figures)
            print(f"  {self.records:,} records, {self.bytes / MIB:,.0f} MiB of log, {self.wall:.1f} s", file=sys.stderr)
        return True

    def end(self):
        self.generator.kill()
        self.generator.wait()


def records_of(figures):
    return sum(figures[k] for k in ("messages", "rejects", "witnesses", "reports"))


def table(head, rows):
    rows = [head, *rows]
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    for n, row in enumerate(rows):
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |")
        if n == 0:
            print("|" + "|".join("-" * (w + 2) for w in widths) + "|")


def rounded(value, unit):
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def machine():
    with open("/proc/loadavg") as f:
        load = f.read().split()[0]
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    if float(load) > 0.5:
        print(f"the machine is busy (load {load}): times and ratios of this run say little", file=sys.stderr)
    print(f"{os.cpu_count()} cores ({cpu}), load {load}, {time.strftime('%Y-%m-%d')}, {says(MSGTRK, '--version').strip()}\n")


# --- compare -----------------------------------------------------------------------------------------------------

def peer(name, program, *arguments, variable=None):
    """The command line of another program, or None where it is not installed; said then."""
    path = os.environ.get(variable or name.upper(), program)
    found = shutil.which(path) or (path if os.path.isfile(path) else None)
    if not found:
        print(f"{name}: skipped, not installed", file=sys.stderr)
        return None
    # Debian's scripts, unpacked or not meant to be called by themselves, are still Perl's.
    with open(found, "rb") as f:
        perl = b"perl" in f.read(64)
    return [*(["perl"] if perl else []), found, *arguments]


class Comparison:
    def __init__(self):
        self.rows, self.goals, self.missed = [], [], 0

    def program(self, name, took, bytes_, own=None):
        ratio = f"{took.wall / own.wall:.2f}" if own else "1"
        rate = f"{bytes_ / MIB / took.wall:.1f}"
        self.rows.append((name, f"{took.wall:.2f}", rate, f"{took.cpu:.2f}", f"{took.peak / MIB:.0f}", ratio))
        print(f"  {name}: {took.wall:.2f} s", file=sys.stderr)

    def peer(self, name, command, bytes_, own, fed=None):
        """Another program's run; what is wrong with it is its own affair. grep-like ones end with 1 where nothing is found."""
        if not command:
            return None
        try:
            took = run(*command, stdin=fed, check=(0, 1))
        except Failed as error:
            print(f"{name}: left out: {error}", file=sys.stderr)
            return None
        self.program(name, took, bytes_, own)
        return took

    def goal(self, what, goal, measured, met):
        verdict = "not measured" if met is None else "met" if met else "missed"
        self.missed += met is False
        self.goals.append((what, goal, measured, verdict))

    def most(self, what, bound, value, unit):
        measured = "-" if value is None else rounded(value, unit)
        self.goal(what, f"at most {bound:g} {unit}", measured, None if value is None else value <= bound)

    def least(self, what, bound, value, unit):
        measured = "-" if value is None else rounded(value, unit)
        self.goal(what, f"at least {bound:g} {unit}", measured, None if value is None else value >= bound)


def compare():
    mib, records = number("MIB", 1024), number("RECORDS", 10_000_000)
    c = Comparison()
    machine()
    log, index = os.path.join(DIR, "mail.log"), os.path.join(DIR, "index")
    genlog(log, mib, "postfix")
    bytes_ = size(log)
    own = backfill(index, log)
    c.program("msgtrk backfill", own, bytes_)
    share = 100 * size(index) / bytes_
    again = backfill(index, log)
    c.program("msgtrk backfill, nothing new", again, bytes_, own)
    shutil.rmtree(index)
    packed = {}
    for name, pack in (("zst", ["zstd", "-q", "-3", "-T0"]), ("gz", ["gzip", "-k"])):
        if not shutil.which(pack[0]):
            print(f".{name}: skipped, no {pack[0]}", file=sys.stderr)
            continue
        subprocess.run([*pack, log], check=True)
        packed[name] = backfill(index, f"{log}.{name}")
        c.program(f"msgtrk backfill of .{name}", packed[name], bytes_, own)
        shutil.rmtree(index)
        os.unlink(f"{log}.{name}")
    piped_mib = number("PIPED_MIB", 10 * mib)
    piped = backfill_piped(index, piped_mib) if piped_mib else None
    if piped:
        c.program(f"msgtrk backfill of {piped_mib} MiB, piped", piped, piped_mib * MIB)
        shutil.rmtree(index)
    took = {}
    logwatch = "/usr/share/logwatch/scripts/services/postfix"
    counts = ";SELECT log_procname, count(*) FROM syslog_log GROUP BY 1"
    peers = [
        ("pflogsumm", peer("pflogsumm", "pflogsumm", log), None),
        ("logwatch's postfix", peer("logwatch's postfix", logwatch, variable="LOGWATCH_POSTFIX"), log),
        ("lnav", peer("lnav", "lnav", "-n", "-q", "-c", counts, "-c", ":write-csv-to /dev/null", log), None),
        ("rg -c", peer("rg -c", "rg", "-c", "status=sent", log, variable="RG"), None),
    ]
    for name, command, fed in peers:
        result = c.peer(name, command, bytes_, own, fed)
        if result:
            took[name] = result
    os.unlink(log)
    exim(c, max(1, mib // 4))
    unrelated = os.path.join(DIR, "unrelated.log")
    genlog(unrelated, mib, "unrelated")
    other = backfill(index, unrelated)
    c.program("msgtrk backfill of unrelated lines", other, size(unrelated))
    rate = size(unrelated) / (1 << 30) / other.cpu
    os.unlink(unrelated)
    shutil.rmtree(index)
    table(("program", "s", "MiB/s", "CPU s", "peak MiB", "time of msgtrk's"), c.rows)
    print(flush=True)
    feed = Feed(index)
    try:
        if not feed.to(records):
            print(f"the disk has room for {feed.records:,} records only", file=sys.stderr)
    finally:
        feed.end()
    answers(c, index, feed, own, mib, (took, packed, piped_mib, piped, share, again, rate))


def answers(c, index, feed, own, mib, figures):
    took, packed, piped_mib, piped, share, again, rate = figures
    warm, cold = start(index)
    l = latencies(index)
    at = f"at {feed.records:,} records"
    times = lambda name: took[name].wall / own.wall if name in took else None
    c.least(f"backfill of {mib} MiB beside pflogsumm", 8, times("pflogsumm"), "times as fast")
    c.least(f"backfill of {mib} MiB beside logwatch's postfix", 40, times("logwatch's postfix"), "times as fast")
    c.most("peak memory of that", 512, own.peak / MIB, "MiB")
    if piped:
        c.most(f"peak memory of {piped_mib} MiB from a pipe", 512, piped.peak / MIB, "MiB")
    for name, run_ in packed.items():
        c.most(f".{name} beside plain", 1.3, run_.wall / own.wall, "times the time")
    c.most("index, of the log's bytes", 40, share, "%")
    c.least("unrelated lines", 1, rate, "GiB/s a core")
    for name in ("message_id", "queue_id", "envelope_id"):
        c.most(f"find by {name.replace('_', ' ')} {at}, p99", 200, l[f"find.{name}"].get("p99"), "us")
    p99 = l["search.from_to_day"].get("p99")
    c.most(f"search --from X --to Y --since 1d {at}, p99", 10, p99 and p99 / 1000, "ms")
    c.most(f"msgtrk search, start to first row, {at}", 100, 1000 * warm, "ms")
    c.most("  the same, index not in the system's cache", 100, 1000 * cold, "ms")
    c.most(f"second backfill of the same {mib} MiB", 1, again.wall, "s")
    table(("what", "goal", "measured", ""), c.goals)
    if c.missed:
        sys.exit(f"\n{c.missed} of {len(c.goals)} goals missed")


def exim(c, mib):
    """Exim's own main log: every delivery of it beside one message's lines, and beside counts."""
    log, index = os.path.join(DIR, "mainlog"), os.path.join(DIR, "exim")
    genlog(log, mib, "exim", "--stamp", "mainlog")
    own = backfill(index, log)
    c.program(f"msgtrk backfill, {mib} MiB of Exim", own, size(log))
    with open(log) as f:
        someone = next(line.split(" <= ")[1].split()[0] for line in f if " <= " in line and " <= <>" not in line)
    for name, command in (("exigrep", peer("exigrep", "exigrep", someone, log)), ("eximstats", peer("eximstats", "eximstats", log))):
        c.peer(f"{name}, the same", command, size(log), own)
    shutil.rmtree(index)
    os.unlink(log)


def start(index):
    """Seconds of `msgtrk search` to its first row, the slower of two questions: warm, and with nothing of the index in memory."""
    search = [MSGTRK, "--index", index, "search", "--json"]
    some = next(r for r in map(json.loads, says(*search, "--limit", "500").splitlines()) if r["message_id"] and r["envelope_from"])
    asked = (["--limit", "1"], ["--message-id", some["message_id"]])
    warm = max(median([first_row(*search, *a) for _ in range(9)]) for a in asked)
    def cold(a):
        forget(index)
        return first_row(*search, *a)
    return warm, max(median([cold(a) for _ in range(5)]) for a in asked)


# --- scale -------------------------------------------------------------------------------------------------------

def scale(wanted):
    """One index that grows: at each of the sizes wanted its figures; where the disk ends before, those of what it took, and what the rest would be."""
    machine()
    feed = Feed(os.path.join(DIR, "index"))
    rows, built = [], []
    try:
        for records in wanted:
            whole = feed.to(records)
            if whole or feed.records > (built[-1][0] if built else 0):
                rows.append(grown(feed))
                built.append((feed.records, feed.wall, feed.cpu, size(feed.index), feed.bytes))
            if not whole:
                break
    finally:
        feed.end()
    rows += [beyond(records, built) for records in wanted if not built or records > built[-1][0]]
    table(("records", "log MiB", "s", "CPU s", "peak MiB", "index MiB", "of log", "open ms", "search ms warm / cold", "message id us p50 / p99",
           "queue id us", "envelope id us", "from, to, day us", "reader MiB own + mapped"), rows)


def grown(feed):
    index = size(feed.index)
    warm, cold = start(feed.index)
    l = latencies(feed.index)
    asked = (l[name] for name in ("find.message_id", "find.queue_id", "find.envelope_id", "search.from_to_day"))
    asked = [f"{a['p50']:.0f} / {a['p99']:.0f}" if "p99" in a else "-" for a in asked]
    memory = f"{l['opened']['resident_kib'] / 1024:.1f} + {l['opened']['mapped_kib'] / 1024:.1f}"
    return (f"{feed.records:,}", f"{feed.bytes / MIB:,.0f}", f"{feed.wall:.1f}", f"{feed.cpu:.1f}", f"{feed.peak / MIB:.0f}", f"{index / MIB:,.0f}",
            f"{100 * index / feed.bytes:.0f} %", f"{l['open']['us'] / 1000:.1f}", f"{1000 * warm:.0f} / {1000 * cold:.0f}", *asked, memory)


def beyond(records, built):
    """What was not built for want of room, along the line of the two largest that were. A record is taken to cost the same time and
    bytes as between those; memory and answers do not grow with the records and are left out."""
    if not built:
        sys.exit("not even the smallest index has room on this disk")
    (n0, *low), (n1, *high) = built[-2] if len(built) > 1 else (0, 0.0, 0.0, 0, 0), built[-1]
    wall, cpu, index, log = (b + (b - a) / (n1 - n0) * (records - n1) for a, b in zip(low, high))
    return (f"{records:,} (extrapolated)", f"{log / MIB:,.0f}", f"{wall:.0f}", f"{cpu:.0f}", "-", f"{index / MIB:,.0f}", f"{100 * index / log:.0f} %",
            *["-"] * 7)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    DIR = tempfile.mkdtemp(prefix="msgtrk-bench-")
    try:
        if sys.argv[1:2] == ["compare"]:
            compare()
        elif sys.argv[1:2] == ["scale"] and len(sys.argv) > 2:
            scale(sorted(int(n.replace("_", "")) for n in sys.argv[2:]))
        else:
            sys.exit("measure.py: run benches/compare.sh or benches/scale.sh")
    except Failed as error:
        sys.exit(str(error))
    finally:
        shutil.rmtree(DIR, ignore_errors=True)
