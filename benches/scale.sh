#!/usr/bin/env bash
# How time, memory, size and answers grow: one index built by pieces of a generated log, measured at each number of records.
# Usage: benches/scale.sh 1000000 10000000 100000000
# Where the disk (TMPDIR) ends before, what follows from the sizes that were built is printed as extrapolated.
# Environment: MTA (mixed), RATE (10, messages a second of log time), SEED (3), PIECE_MIB (1024), ROOM_GIB (2, stay free).
set -euo pipefail
: "${1:?usage: benches/scale.sh RECORDS...}"
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet --bin msgtrk --example genlog
LATENCY=$(cargo bench --locked --quiet --bench latency --no-run --message-format=json | sed -n '/"kind":\["bench"\]/s/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
export LATENCY
exec python3 benches/measure.py scale "$@"
