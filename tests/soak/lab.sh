#!/bin/bash
# `msgtrk serve` watches the mail lab's log host and its bounce mailboxes while a run of real MTAs goes on; states on
# the way are compared with the log, and at the end every recipient with what really happened.
#
#   LAB=DIR LABSCRIPTS=.../lab MSGTRK=target/release/msgtrk tests/soak/lab.sh [RUN]
#
# RUN is the lab's run (default: postfix); its images must be built. Needs root (network namespaces) and python3.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") run=${1:-postfix}
msgtrk=$(readlink -f "${MSGTRK:-$here/../../target/release/msgtrk}")
[ "$(id -u)" = 0 ] || { echo "skipped: the lab wants root"; exit 0; }
[ -n "${LAB:-}" ] && [ -x "${LABSCRIPTS:-}/run.sh" -o -f "${LABSCRIPTS:-}/run.sh" ] || { echo "skipped: no lab; name it with LAB and LABSCRIPTS"; exit 0; }
dir=${OUT:-$(mktemp -d)}; mkdir -p "$dir"; chmod 700 "$dir"
export TZ=UTC LAB
hosts=$LAB/root/hosts
log=$hosts/loghost/root/var/log/central.rfc3339.log
# What logs to a file of its own and not to the log host (mx2 of the run postfix: postlogd).
own=$hosts/mx2/root/var/log/postfix.log
box=$hosts/store/root/var/vmail/sender.test
pids=()
finish() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  [ -n "${OUT:-}" ] || rm -rf "$dir"
}
trap finish EXIT
"$msgtrk" --index "$dir/index" serve --watch "$log" "$own" --dsn "$box/alice" "$box/bob" "$box/carol" "$box/dave" "$box/erin" "$box/frank" \
  "$box/jürgen" >"$dir/serve.out" 2>"$dir/serve.err" & serve=$!; pids+=($serve)
rm -f "$dir/ended"
( bash "$LABSCRIPTS/run.sh" "$run" >"$dir/run.out" 2>&1 && echo good >"$dir/ended" || echo bad >"$dir/ended" ) & pids+=($!)
python3 "$here/lab.py" watch "$msgtrk" "$dir/index" "$log" "$own" "$dir/ended" >"$dir/states"
grep -q good "$dir/ended" || { echo "the lab's run failed:" >&2; tail -20 "$dir/run.out" >&2; exit 1; }
sleep 2
"$msgtrk" --index "$dir/index" status --json >"$dir/status.json" || true
kill -TERM "$serve"; wait "$serve"
cat "$dir/states"
! grep -q ^WRONG "$dir/states" || exit 1
python3 "$here/lab.py" truth "$msgtrk" "$dir/index" "$LAB/out/$run"
"$msgtrk" --index "$dir/other" backfill "$LAB/out/$run/loghost/central.rfc3339.log" \
  $(ls "$LAB/out/$run/mx2/postfix.log" 2>/dev/null || true) "$LAB/out/$run/store/mailboxes/sender.test"/* 2>"$dir/backfill.err"
all() { "$msgtrk" --index "$1" search --limit 0 --json --lines | sort; }
all "$dir/index" >"$dir/live.json"; all "$dir/other" >"$dir/backfill.json"
cmp "$dir/live.json" "$dir/backfill.json" || { echo "WRONG: records differ from a backfill's" >&2; exit 1; }
echo "ok: $(wc -l <"$dir/live.json") records, all as a backfill of log and mailboxes gives them"
