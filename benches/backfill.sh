#!/usr/bin/env bash
# One backfill of a Postfix log beside pflogsumm (skipped with a word when it is not installed): speed, memory, size.
# Usage: benches/backfill.sh LOG        (a log of some 100 MiB gives steady figures)
set -euo pipefail
log=${1:?usage: benches/backfill.sh LOG}
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
index=$(mktemp -d)
trap 'rm -rf "$index"' EXIT
mib=$(( $(stat -c %s "$log") / 1048576 ))

# seconds, CPU seconds and peak KiB of a command, from the shell's own accounting where GNU time is missing
measure() {
  if [ -x /usr/bin/time ]; then /usr/bin/time -f '%e %U %S %M' "$@" 2>&1 >/dev/null | tail -n 1
  else local t=$EPOCHREALTIME; "$@" >/dev/null 2>&1; awk -v a="$t" -v b="$EPOCHREALTIME" 'BEGIN { print b - a, "?", "?", "?" }'; fi
}
row() { awk -v n="$1" -v mib="$mib" '{ printf "%-10s %7.1f s  %7.1f MiB/s  CPU %s+%s s  peak %s KiB\n", n, $1, mib / $1, $2, $3, $4 }'; }

own=$(measure ./target/release/msgtrk --index "$index/i" --timezone UTC backfill --quiet "$log")
echo "$own" | row msgtrk
records=$(./target/release/msgtrk --index "$index/i" stats --json | sed -E 's/.*"messages":([0-9]+).*/\1/')
echo "           $records messages at an MTA; index $(du -sm "$index/i" | cut -f1) MiB of $mib MiB log"
if command -v pflogsumm >/dev/null; then
  peer=$(measure pflogsumm "$log")
  echo "$peer" | row pflogsumm
  awk -v a="${own%% *}" -v b="${peer%% *}" 'BEGIN { printf "           msgtrk is %.2f times as fast as pflogsumm\n", b / a }'
else
  echo "pflogsumm  skipped: not installed"
fi
