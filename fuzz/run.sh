#!/usr/bin/env bash
# Runs the fuzz targets one after the other under libFuzzer, and fails on the first finding.
#
#   fuzz/run.sh [SECONDS [TARGET...]]      SECONDS a target, 60 unless given; all targets unless named
#
# Needs cargo-fuzz and a nightly toolchain (`cargo install cargo-fuzz`, `rustup toolchain install nightly`). Without: says so,
# and ends with 0. CORPUS is the folder of corpora, by default fuzz/corpus; they grow there from run to run. SANITIZER is
# `none` by default: no code here is unsafe; `address` watches that of others. What is found lies in fuzz/artifacts/TARGET/;
# cut it down (`cargo +nightly fuzz tmin TARGET FILE`), put it into fuzz/found/TARGET/, and `cargo test` runs it forever after.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
if ! cargo fuzz --version >/dev/null 2>&1 || ! cargo +nightly --version >/dev/null 2>&1; then
  echo "no cargo-fuzz or no nightly toolchain here: not fuzzed"
  exit 0
fi
# The versions that are tested are those that are fuzzed.
[ -e fuzz/Cargo.lock ] || cp Cargo.lock fuzz/Cargo.lock
sanitizer=${SANITIZER:-none}
corpus=$(realpath -m "${CORPUS:-fuzz/corpus}")
mkdir -p "$corpus"
python3 fuzz/seed.py "$corpus"
cargo +nightly fuzz build --sanitizer "$sanitizer"
[ $# -gt 0 ] || mapfile -t targets < <(cargo +nightly fuzz list)
for target in "${@:-${targets[@]}}"; do
  echo "== $target: $seconds s"
  mkdir -p "$corpus/$target" "fuzz/found/$target"
  # Generous, for a busy machine; a mail or a block is not worth more memory than this.
  cargo +nightly fuzz run --sanitizer "$sanitizer" "$target" "$corpus/$target" "fuzz/found/$target" -- \
    -max_total_time="$seconds" -timeout=25 -rss_limit_mb=1500 -max_len=16384 -dict="$corpus/words" -print_final_stats=1 -verbosity=1
done
