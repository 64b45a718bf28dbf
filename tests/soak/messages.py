#!/usr/bin/env python3
"""Writes the lines of a known set of messages at a steady rate, six lines a message.

    messages.py socket PATH RATE SECONDS   to a syslog socket, as syslog(3) does
    messages.py file   PATH RATE SECONDS   to a file as RSYSLOG_FileFormat writes it, opened anew for each portion

Message N has the queue id of id_of(N), the Message-ID mN@c.test and the recipient rN@d.test; it comes, is put off, is
delivered. The three stages of a message lie SPREAD messages apart, so that records are changed after they were stored.
At the end one line tells how many messages were written; all stages of them were.
"""
import datetime
import os
import socket
import sys
import time

SPREAD = int(os.environ.get("SPREAD", "2000"))


def id_of(n):
    return "4AB%07dzGHJK" % n


def came(n):
    q = id_of(n)
    return [
        ("smtpd", f"{q}: client=c.test[192.0.2.1]"),
        ("cleanup", f"{q}: message-id=<m{n}@c.test>"),
        ("qmgr", f"{q}: from=<a@c.test>, size=900, nrcpt=1 (queue active)"),
    ]


def put_off(n):
    return [
        (
            "smtp",
            f"{id_of(n)}: to=<r{n}@d.test>, relay=none, delay=1, delays=0/0/1/0, dsn=4.4.1, status=deferred"
            " (connect to d.test[192.0.2.9]:25: Connection refused)",
        )
    ]


def sent(n):
    q = id_of(n)
    return [
        (
            "smtp",
            f"{q}: to=<r{n}@d.test>, relay=d.test[192.0.2.9]:25, delay=2, delays=0/0/1/0, dsn=2.0.0,"
            f" status=sent (250 2.0.0 Ok: queued as 9F{n})",
        ),
        ("qmgr", f"{q}: removed"),
    ]


def stamp():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def as_file(lines):
    return "".join(f"{stamp()} mx1 postfix/{p}[7]: {text}\n" for p, text in lines)


def portions(rate, seconds):
    """Lists of lines, at the times when they are due."""
    begun, n = time.monotonic(), 0
    while (gone := time.monotonic() - begun) < seconds:
        lines = []
        while n * 6 < gone * rate:
            lines += came(n)
            if n >= SPREAD:
                lines += put_off(n - SPREAD)
            if n >= 2 * SPREAD:
                lines += sent(n - 2 * SPREAD)
            n += 1
        yield lines
        time.sleep(0.005)
    for k in range(max(0, n - 2 * SPREAD), n):
        yield (put_off(k) if k >= n - SPREAD else []) + sent(k)
    print(n)


def main():
    how, path, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    if how == "socket":
        out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        out.connect(path)
        for lines in portions(rate, seconds):
            now = time.strftime("%b %e %H:%M:%S")
            for program, text in lines:
                out.send(f"<22>{now} postfix/{program}[7]: {text}".encode())
        return
    for lines in portions(rate, seconds):
        if lines:
            with open(path, "ab", buffering=0) as out:
                out.write(as_file(lines).encode())


if __name__ == "__main__":
    main()
