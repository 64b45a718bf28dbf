#!/usr/bin/env python3
"""What lab.sh asks of the daemon.

    lab.py watch MSGTRK INDEX LOG.. END   until the file END is there: what the logs say of a recipient is what `trace` says
    lab.py truth MSGTRK INDEX RUNDIR      every recipient of truth.jsonl is as it says there
"""
import collections
import json
import os
import random
import re
import subprocess
import sys
import time

STAMP = r"^(?:\S+|\w{3} [ \d]\d \S+) (?P<host>\S+) postfix\S*/\w+\[\d+\]: (?P<id>\w+): "
TO = re.compile(STAMP + r"to=<(?P<to>[^>]*)>, .*?relay=.*?, status=(?P<status>sent|deferred|bounced|expired|undeliverable|deliverable) ")
QUEUED = re.compile(STAMP + r"from=<[^>]*>, size=\d+, nrcpt=\d+ \(queue active\)")
EXPIRED = re.compile(STAMP + r"from=<.*>, status=expired, returned to sender")
REMOVED = re.compile(STAMP + r"removed$")
WORDS = {
    "sent": {"delivered", "relayed", "transferred", "expanded", "opaque"},
    "deferred": {"delayed"},
    "bounced": {"failed"},
    "expired": {"failed"},
}


# What the logs cannot say, or say otherwise than the truth counts (tests/all/truth.rs tells why): scenario, truth, trace.
KNOWN = {
    # An alias or .forward with one member is an ordinary forward (RFC 3885, 3.3): how it ended there.
    ("alias:fwd", "expanded", "relayed"),
    ("alias:u3", "expanded", "delivered"),
    ("out", "expanded", "relayed"),
    # No line names the second recipient of a message that a check or milter discarded or held, or one it removed.
    ("content:discard", "discarded", "nothing"),
    ("milter:delrcpt", "discarded", "nothing"),
    ("milter:discard", "discarded", "nothing"),
    ("milter:quarantine", "delayed", "nothing"),
    # The truth took another copy for this one: the store's log and the bounce say 550 5.1.1.
    ("plus", "delivered", "failed"),
    # The client was told "Saved"; Dovecot's own line says that Sieve discarded it.
    ("sieve:disc", "delivered", "discarded"),
}


def trace(msgtrk, index, id):
    out = subprocess.run([msgtrk, "--index", index, "trace", id, "--json"], capture_output=True)
    return json.loads(out.stdout) if out.returncode == 0 and out.stdout.strip() else None


class Log:
    """What Postfix's own words say, read by other code than the program's."""

    def __init__(self, path):
        self.path, self.at, self.rest, self.inode = path, 0, b"", None
        self.queued, self.state, self.removed = {}, collections.defaultdict(dict), set()

    def read(self):
        try:
            with open(self.path, "rb") as f:
                inode = os.fstat(f.fileno()).st_ino
                if inode != self.inode:
                    self.at, self.rest, self.inode = 0, b"", inode
                f.seek(self.at)
                data = f.read()
        except OSError:
            return
        self.at += len(data)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            line = line.decode("utf-8", "replace")
            if m := TO.match(line):
                self.state[m["host"], m["id"]][m["to"].lower()] = m["status"]
            elif m := QUEUED.match(line):
                self.queued.setdefault((m["host"], m["id"]), time.monotonic())
            elif m := EXPIRED.match(line):
                of = self.state[m["host"], m["id"]]
                for to in of:
                    of[to] = "expired" if of[to] == "deferred" else of[to]
            elif m := REMOVED.match(line):
                self.removed.add((m["host"], m["id"]))


def watch(msgtrk, index, *paths):
    *paths, end = paths
    logs = [Log(path) for path in paths]
    seen, wrong, rng = collections.Counter(), 0, random.Random(1)
    last = collections.defaultdict(list)
    while not os.path.exists(end):
        time.sleep(0.5)
        log = rng.choice(logs)
        log.read()
        open_ones = [k for k in log.queued if k not in log.removed]
        some = rng.sample(open_ones, min(5, len(open_ones)))
        done = [k for k in list(log.queued)[-100:] if k in log.removed]
        some += rng.sample(done, min(2, len(done)))
        for host, id in some:
            log.read()
            before, had = dict(log.state[host, id]), log.queued[host, id]
            time.sleep(0.3)
            t = trace(msgtrk, index, id)
            log.read()
            after = log.state[host, id]
            records = [r for r in (t or {}).get("records", []) if r["queue_id"] == id and r["reporting_mta"].split(".")[0] == host.split(".")[0]]
            if len(records) != 1:
                wrong += 1
                print(f"WRONG {host} {id}: in the log for {time.monotonic() - had:.1f} s, trace has {len(records)} records of it")
                continue
            said = {r["final_recipient"].lower(): r["action"] for r in records[0]["recipients"] if r["final_recipient"]}
            if not before and not after and (host, id) not in log.removed:
                seen["queued, not tried"] += 1
            for to, status in before.items():
                if status not in WORDS:
                    continue
                if said.get(to) in WORDS[status] or said.get(to) in WORDS.get(after.get(to), ()):
                    seen[f"{status}: {said[to]}"] += 1
                    of = last[host, id, to]
                    if not of or of[-1] != said[to]:
                        of.append(said[to])
                else:
                    wrong += 1
                    print(f"WRONG {host} {id} {to}: the log says {status}, trace says {said.get(to)}")
    ways = collections.Counter(" -> ".join(w) for w in last.values() if len(w) > 1)
    print("states seen:", ", ".join(f"{n} x {s}" for s, n in sorted(seen.items())))
    print("ways seen:", ", ".join(f"{n} x {s}" for s, n in sorted(ways.items())) or "none")
    print(f"{wrong} wrong")


def ending(t, to):
    """As tests/all/truth.rs counts: the last hop's word for this recipient of the message."""
    mine = [r for j in [t] + t.get("journeys", []) for r in j["recipients"] if r["original_recipient"].lower() == to.lower()]
    mine = [r for r in mine if r["action"] == "expanded"] or mine
    words = set()
    for r in mine:
        d = r.get("disposition")
        words.add(d if r["action"] == "opaque" and d else r["action"])
    return "+".join(sorted(words)) or "nothing"


def truth(msgtrk, index, run):
    rows = [json.loads(line) for line in open(f"{run}/truth.jsonl")]
    rows = [r for r in rows if r["accepted"]]
    differ, same, kept = collections.Counter(), 0, {}
    for r in rows:
        id = (re.search(r"queued as (\w+)", r["reply"] or "") or [None, None])[1]
        if not id:
            continue
        if id not in kept:
            kept[id] = trace(msgtrk, index, id)
        said = ending(kept[id], r["to"]) if kept[id] else "no message"
        if said == r["outcome"]:
            same += 1
        else:
            differ[r["scenario"], r["outcome"], said] += 1
    print(f"truth: {same} recipients as it says; otherwise:")
    for (scenario, want, said), n in sorted(differ.items()):
        known = (scenario, want, said) in KNOWN
        print(f"  {n} x {scenario}: truth {want}, trace {said}{'' if known else ': WRONG'}")
    if not set(differ) <= KNOWN:
        sys.exit(1)


def main():
    if sys.argv[1] == "watch":
        watch(*sys.argv[2:])
    else:
        truth(*sys.argv[2:5])


if __name__ == "__main__":
    main()
