#!/usr/bin/env bash
# msgtrk beside pflogsumm, logwatch's postfix script, lnav, rg, exigrep and eximstats, on the same logs in one run: time, CPU time, memory,
# and whether the goals are met (exit 1 where one is not). A peer that is not installed is skipped with a word.
#
# Environment: MIB (1024) of Postfix log, PIPED_MIB (ten times that, read from a pipe to see its memory; 0: not), SEED (3), RECORDS
# (10000000) of the index that is asked, and of that index MTA (mixed), RATE (10, messages a second of log time), PIECE_MIB (1024),
# ROOM_GIB (2, stay free). TMPDIR needs room for twice MIB, half of PIPED_MIB, and 8 GiB for ten million records.
# Paths of peers: PFLOGSUMM, LOGWATCH_POSTFIX, LNAV, RG, EXIGREP, EXIMSTATS.
# A first try: MIB=64 RECORDS=100000 benches/compare.sh
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --bin msgtrk --example genlog
LATENCY=$(cargo bench --locked --quiet --bench latency --no-run --message-format=json | sed -n '/"kind":\["bench"\]/s/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
export LATENCY
exec python3 benches/measure.py compare
