#!/usr/bin/env python3
"""Writes seeds for the fuzz targets under OUT/TARGET/, and a dictionary OUT/words, out of the repository's own samples.

usage: fuzz/seed.py OUT        (in the project's folder; `zstd` is needed for the mailboxes)
"""
import glob, hashlib, os, re, subprocess, sys, tomllib

out = sys.argv[1]


def seed(target, data):
    data = data.encode() if isinstance(data, str) else data
    folder = os.path.join(out, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, hashlib.sha1(data).hexdigest()[:16]), "wb") as f:
        f.write(data)


def strings(value, key):
    """All strings under a key anywhere in a parser file."""
    if isinstance(value, dict):
        for k, v in value.items():
            if k == key and isinstance(v, str):
                yield v
            yield from strings(v, key)
    elif isinstance(value, list):
        for v in value:
            yield from strings(v, key)


def plain(path):
    tool = {".gz": ["gzip"], ".bz2": ["bzip2"], ".xz": ["xz"], ".zst": ["zstd", "-q"]}.get(os.path.splitext(path)[1])
    if tool is None:
        return open(path, "rb").read()
    try:
        return subprocess.run(tool + ["-dc", path], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as e:
        print(f"{path} is left out: {e}", file=sys.stderr)
        return b""


# Lines, blocks of them, and syslog messages with and without their length.
for path in sorted(glob.glob("parsers/*.toml")):
    lines = list(strings(tomllib.load(open(path, "rb")), "line"))
    for line in lines:
        seed("log_line", line)
    seed("log_block", "\x07" + "\n".join(lines[:40]) + "\n")
    seed("syslog", "".join(f"{len(m.encode())} {m}" for m in ("<22>" + l for l in lines[:6])))
    seed("syslog", "\n".join("<22>" + l for l in lines[6:12]) + "\n")
for path in sorted(p for p in glob.glob("sample-logs/*/**", recursive=True) if os.path.isfile(p) and "/dsn/" not in p):
    if not path.endswith("truth.jsonl"):
        lines = plain(path).splitlines(keepends=True)
        for at in range(0, min(len(lines), 2000), 400):
            seed("log_block", bytes([at // 25 % 256]) + b"".join(lines[at : at + 25]))

# Mails, one by one and as mailboxes.
for path in sorted(glob.glob("tests/dsn/*.eml")):
    seed("dsn", plain(path))
for path in sorted(glob.glob("parsers/dsn/*.toml")):
    for mail in strings(tomllib.load(open(path, "rb")), "mail"):
        seed("dsn", mail)
for path in sorted(glob.glob("sample-logs/dsn/*")):
    mails = re.split(rb"(?m)^(?=From \S+ +\w{3} )", plain(path))[1:]
    for mail in mails[::25]:
        seed("dsn", mail)
    for at in range(0, len(mails) - 3, 60):
        seed("mailbox", b"".join(mails[at : at + 3]))

# Dialogues.
for path in sorted(glob.glob("tests/golden/mtqp/*/dialogue")):
    said = [(l[:1], l[3:]) for l in plain(path).decode().splitlines()]
    client, server = (["\r\n".join([t for w, t in said if w == who] + [""]) for who in "CS"])
    seed("mtqp_session", client)
    seed("mtqp_reply", server)
    seed("trkstat_read", "\n".join(l for l in server.split("\r\n") if not l.startswith("+OK") and l != "."))
    for line in client.splitlines():
        seed("mtqp_command", line)
for uri in ("mtqp://h.test:1/track/a%2Fb@c/YWJj", "mtqp://[::1]/track/<1@h>/YWJjZGVm", "mtqp://h.test/track/1@h/YWJjZGVm"):
    seed("mtqp_uri", uri)
certifier = "qUqP5cyxm6YcTAhz05Hph5gvu9M"
client = [
    "EHLO c\r\n",
    f"MAIL FROM:<a@b> MTRK={certifier}:86400 ENVID=1+2B@h RET=HDRS\r\n",
    "RCPT TO:<c@d> ORCPT=rfc822;c@d\r\n",
    "DATA\r\n",
    "Subject: x\r\n\r\n..\r\n.\r\n",
    "QUIT\r\n",
]
server = [
    "220 x\r\n",
    "250-x\r\n250-DSN\r\n250-CHUNKING\r\n250 AUTH LOGIN\r\n",
    "250 2.1.0 Ok\r\n",
    "250 2.1.5 Ok\r\n",
    "354 go\r\n",
    "250 2.0.0 Ok: queued as 4AbC\r\n",
    "221 bye\r\n",
]
for line in client:
    seed("smtp_line", line.rstrip())
for line in server:
    seed("smtp_reply", line)
seed("smtp_reply", "".join(server))
for text in ("a\r\n.\r\n", "..a\r\n.\r\nQUIT\r\n", "a\n.\n", "a\r\n.\n", "a\0\r\n.\r\n"):
    seed("smtp_content", "\x03" + text)
turns = [(1, server[0])] + [t for c, s in zip(client, server[1:]) for t in ((0, c), (1, s))]
seed("smtp_session", b"".join(bytes([len(t) * 2 + who]) + t.encode() for who, t in turns))

# The words of the tests, as libFuzzer's dictionary.
with open(os.path.join(out, "words"), "w") as f:
    for word in re.findall(r'^ {4}"((?:[^"\\]|\\.)*)",$', open("tests/all/fuzz.rs").read(), re.M):
        # Of Rust's escapes libFuzzer knows those of bytes, backslash and quote only.
        code = lambda m: "".join(f"\\x{b:02X}" for b in (chr(int(m[2], 16)) if m[2] else {"r": "\r", "n": "\n", "0": "\0"}[m[1]]).encode())
        f.write('"' + re.sub(r"(?<!\\)\\(?:([rn0])|u\{(\w+)\})", code, word) + '"\n')
