#!/bin/bash
# A real rsyslogd writes, a real logrotate turns and compresses, `msgtrk serve` follows; memory, descriptors and lag
# are sampled, and at the end the index must say exactly what a backfill of all lines says.
#
#   MSGTRK=target/release/msgtrk DURATION=600 RATE=2000 TURN=5 tests/soak/rsyslog.sh
#
# DURATION seconds of lines, RATE lines a second, a rotation every TURN seconds, KEEP rotated files. Everything is in a
# folder of its own, which goes at the end unless OUT names one. Needs rsyslogd, logrotate and python3; no root, no network.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
msgtrk=$(readlink -f "${MSGTRK:-$here/../../target/release/msgtrk}")
duration=${DURATION:-600} rate=${RATE:-2000} turn=${TURN:-5} keep=${KEEP:-20}
export PATH=$PATH:/usr/sbin:/sbin TZ=UTC
for tool in rsyslogd logrotate python3; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed"; exit 0; }
done
[ -x "$msgtrk" ] || { echo "no program at $msgtrk: build it, or name it with MSGTRK" >&2; exit 2; }
if [ -n "${OUT:-}" ]; then mkdir -p "$OUT"; dir=$(readlink -f "$OUT"); else dir=$(mktemp -d); fi
chmod 700 "$dir"
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  [ -n "${OUT:-}" ] || rm -rf "$dir"
}
trap finish EXIT
trap 'exit 143' TERM INT

mkdir -p "$dir/log" "$dir/work"
cat >"$dir/rsyslog.conf" <<X
global(workDirectory="$dir/work")
module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" Socket="$dir/log.sock")
action(type="omfile" file="$dir/log/mail.log" template="RSYSLOG_FileFormat" fileCreateMode="0640")
action(type="omfile" file="$dir/whole.log" template="RSYSLOG_FileFormat" fileCreateMode="0640")
X
cat >"$dir/logrotate.conf" <<X
"$dir/log/mail.log" {
  size 1
  rotate $keep
  compress
  delaycompress
  missingok
  nodateext
  postrotate
    kill -HUP \$(cat "$dir/rsyslog.pid")
  endscript
}
X
rsyslogd -n -f "$dir/rsyslog.conf" -i "$dir/rsyslog.pid" 2>"$dir/rsyslogd.err" & pids+=($!)
for _ in $(seq 100); do [ -S "$dir/log.sock" ] && break; sleep 0.1; done
[ -S "$dir/log.sock" ] || { echo "rsyslogd did not start:" >&2; cat "$dir/rsyslogd.err" >&2; exit 1; }

"$msgtrk" --index "$dir/index" serve --watch "$dir/log/mail.log" >"$dir/serve.out" 2>"$dir/serve.err" & serve=$!; pids+=($serve)
for _ in $(seq 100); do grep -q ^ready "$dir/serve.out" && break; sleep 0.1; done
grep -q ^ready "$dir/serve.out" || { echo "serve did not start:" >&2; cat "$dir/serve.err" >&2; exit 1; }

( while sleep "$turn"; do logrotate -s "$dir/logrotate.state" "$dir/logrotate.conf" || echo "logrotate: $?" >>"$dir/logrotate.err"; done ) & turner=$!; pids+=($turner)
python3 "$here/messages.py" socket "$dir/log.sock" "$rate" "$duration" >"$dir/messages" & writer=$!; pids+=($writer)

# seconds, RSS and its anonymous part in KiB, descriptors, bytes behind, seconds behind, CPU ticks, lines read
sample() {
  local status; status=$("$msgtrk" --index "$dir/index" status --json || true)
  figure() { grep -o "\"$1\":[0-9.]*" <<<"$status" | head -1 | cut -d: -f2 | grep . || echo 0; }
  echo "$SECONDS $(awk '/^VmRSS/{r=$2} /^RssAnon/{a=$2} END{print r, a}' /proc/$serve/status) $(ls /proc/$serve/fd | wc -l)" \
    "$(figure bytes_behind) $(figure seconds_behind) $(awk '{print $14+$15}' /proc/$serve/stat) $(figure lines)"
}
SECONDS=0
while kill -0 "$writer" 2>/dev/null; do sample; sleep 2; done >"$dir/samples"
wait "$writer"
messages=$(cat "$dir/messages") ended=$SECONDS

# Everything that was sent is read, and stored.
lines=$((messages * 6)) read=0
for _ in $(seq 600); do
  read=$(sample | awk '{print $8}')
  [ "$read" -ge "$lines" ] && break
  sleep 0.5
done
caught=$((SECONDS - ended))
kill "$turner"
begun=$(date +%s%N)
kill -TERM "$serve"; wait "$serve" || { echo "serve ended with $?" >&2; exit 1; }
stopped=$((($(date +%s%N) - begun) / 1000000))

"$msgtrk" --index "$dir/other" backfill "$dir/whole.log" 2>"$dir/backfill.err"
all() { "$msgtrk" --index "$1" search --limit 0 --json --lines | sort; }
all "$dir/index" >"$dir/live.json"; all "$dir/other" >"$dir/backfill.json"
found=$(wc -l <"$dir/live.json")

quarters() { # column, name
  awk -v c="$1" -v n="$2" '{v[NR]=$c} function median(a, b,   i, k, t, w) { k=0; for (i=a;i<=b;i++) w[++k]=v[i];
    for (i=2;i<=k;i++) for (t=i;t>1&&w[t-1]+0>w[t]+0;t--) {x=w[t];w[t]=w[t-1];w[t-1]=x} return w[int((k+1)/2)] }
    END { q=int(NR/4); m=v[1]; for (i=1;i<=NR;i++) if (v[i]+0>m+0) m=v[i];
      printf "%-22s medians of the quarters %s %s %s %s, most %s\n", n, median(1,q), median(q+1,2*q), median(2*q+1,3*q), median(3*q+1,NR), m }' "$dir/samples"
}
echo "messages $messages, lines $lines, read $read, written whole $(wc -l <"$dir/whole.log"), rotations $(ls "$dir/log" | wc -l) kept"
quarters 2 "RSS KiB"; quarters 3 "RSS anonymous KiB"; quarters 4 "descriptors"; quarters 5 "bytes behind"; quarters 6 "seconds behind"
awk 'NR==1{t=$1;c=$7} END{printf "CPU %.1f %% of one core\n", ($7-c)/($1-t)}' "$dir/samples"
echo "caught up $caught s after the last line; SIGTERM took $stopped ms; index $(du -sm "$dir/index" | cut -f1) MiB"
[ ! -s "$dir/logrotate.err" ] || { echo "logrotate failed:" >&2; cat "$dir/logrotate.err" >&2; exit 1; }
[ "$(wc -l <"$dir/whole.log")" -ge "$lines" ] || { echo "rsyslogd itself lost lines" >&2; exit 1; }
[ "$found" = "$messages" ] || { echo "WRONG: $found records of $messages messages" >&2; exit 1; }
cmp "$dir/live.json" "$dir/backfill.json" || { echo "WRONG: records differ from a backfill's" >&2; exit 1; }
echo "ok: $found records, all as a backfill gives them"
