#!/usr/bin/env python3
"""How soon a line is part of an answer, while others arrive.

    MSGTRK=target/release/msgtrk RATE=2000 PROBES=300 tests/soak/fresh.py

RATE lines a second are written; PROBES times a line more is written and asked for until it is part of the answer:
  control   by id over one kept connection to the daemon's control socket (what `trace` asks)
  mtqp      TRACK over one kept connection: the recipient's action changes to `relayed`
  search    `msgtrk search --message-id`, a new process each time, on the index as it is on the disk
Times count from just before the write to the end of the first answer with it in; a search's own run time, measured apart,
is part of them. Exits 1 when a goal is missed: 250 ms at the 99th percentile for the daemon, 1 s for search.
Needs python3; no root; loopback only.
"""
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import messages  # noqa: E402

MSGTRK = os.environ.get("MSGTRK", os.path.join(HERE, "../../target/release/msgtrk"))
RATE, PROBES = os.environ.get("RATE", "2000"), int(os.environ.get("PROBES", "300"))
BASE = 5_000_000
PATIENCE = 30


def run(index, *args):
    return subprocess.run([MSGTRK, "--index", index, *args], capture_output=True, env={**os.environ, "TZ": "UTC"})


def write(log, lines):
    with open(log, "ab", buffering=0) as out:
        out.write(messages.as_file(lines).encode())


class Control:
    def __init__(self, index):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.path.join(index, "control.sock"))
        assert self.ask({"ask": "hello", "version": 1})["say"] == "hello"

    def ask(self, request):
        body = json.dumps(request).encode()
        self.socket.sendall(struct.pack(">I", len(body)) + body)
        (length,) = struct.unpack(">I", self.take(4))
        return json.loads(self.take(length))

    def take(self, length):
        data = b""
        while len(data) < length:
            more = self.socket.recv(length - len(data))
            assert more, "the daemon hung up"
            data += more
        return data


class Mtqp:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.file = self.socket.makefile("rb")
        self.response()

    def response(self):
        first = self.file.readline()
        text = first
        if first.startswith(b"+OK+"):
            while not text.endswith(b"\r\n.\r\n"):
                line = self.file.readline()
                assert line, "the server hung up"
                text += line
        return text.decode()

    def track(self, envid, secret):
        self.socket.sendall(f"TRACK {envid} {secret}\r\n".encode())
        return self.response()


def until(what, seen, pause):
    begun = time.monotonic()
    while not seen():
        assert time.monotonic() - begun < PATIENCE, f"not within {PATIENCE} s: {what}"
        time.sleep(pause)


def told(what, times, goal):
    times = sorted(times)
    at = lambda q: times[min(len(times) - 1, int(len(times) * q))] * 1000
    ok = at(0.99) < goal
    print(f"{what:<8} {len(times)} probes: p50 {at(.5):.0f} ms, p90 {at(.9):.0f} ms, p99 {at(.99):.0f} ms, most {times[-1]*1000:.0f} ms"
          f" (goal {goal} ms: {'met' if ok else 'MISSED'})", flush=True)
    return ok


def measure(dir):
    index, log = os.path.join(dir, "index"), os.path.join(dir, "mail.log")
    open(log, "w").close()
    serve = subprocess.Popen([MSGTRK, "--index", index, "serve", "--watch", log, "--mtqp", "127.0.0.1:0"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "TZ": "UTC"})
    ready = serve.stdout.readline().decode()
    address = ready.split("mtqp=")[1].split()[0]
    writer = subprocess.Popen([sys.executable, os.path.join(HERE, "messages.py"), "file", log, RATE, "100000"], stdout=subprocess.DEVNULL)
    try:
        time.sleep(5)
        control, good = Control(index), True
        times = []
        for n in range(BASE, BASE + PROBES):
            begun = time.monotonic()
            write(log, messages.came(n))
            until(f"control {n}", lambda: control.ask({"ask": "by_id", "id": f"m{n}@c.test"})["records"], 0.002)
            times.append(time.monotonic() - begun)
            time.sleep(0.037)
        good &= told("control", times, 250)

        grants = []
        for n in range(BASE, BASE + PROBES):
            out = run(index, "grant", f"m{n}@c.test", "--json", "--server", address)
            grants.append((n, json.loads(out.stdout)))
        mtqp, times = Mtqp(address), []
        for n, grant in grants:
            before = mtqp.track(grant["envelope_id"], grant["secret"])
            assert before.startswith("+OK+") and "relayed" not in before, before
            begun = time.monotonic()
            write(log, messages.sent(n))
            until(f"TRACK {n}", lambda: "Action: relayed" in mtqp.track(grant["envelope_id"], grant["secret"]), 0.002)
            times.append(time.monotonic() - begun)
            time.sleep(0.037)
        good &= told("mtqp", times, 250)

        times, own = [], []
        for n in range(BASE + PROBES, BASE + 2 * PROBES):
            begun = time.monotonic()
            write(log, messages.came(n))
            until(f"search {n}", lambda: run(index, "search", "--message-id", f"m{n}@c.test", "--json").returncode == 0, 0)
            times.append(time.monotonic() - begun)
            begun = time.monotonic()
            run(index, "search", "--message-id", f"m{n}@c.test", "--json")
            own.append(time.monotonic() - begun)
        good &= told("search", times, 1000)
        print(f"         one such search alone takes {sorted(own)[len(own)//2]*1000:.0f} ms (p50)")
        return good
    finally:
        writer.kill()
        serve.kill()
        writer.wait()
        serve.wait()


if __name__ == "__main__":
    if not os.access(MSGTRK, os.X_OK):
        sys.exit(f"no program at {MSGTRK}: build it, or name it with MSGTRK")
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if measure(folder) else 1)
