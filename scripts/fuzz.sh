#!/usr/bin/env bash
# Fuzzes every target for some seconds: scripts/fuzz.sh [SECONDS] [TARGET...]
#
# New inputs that reach new code go to .cache/fuzz/corpus/TARGET, findings to .cache/fuzz/findings/TARGET. Only `cargo install
# cargo-fuzz` is needed: without a sanitizer, the coverage flags work on any toolchain. (The code denies `unsafe` almost
# everywhere; what is looked for is panics, hangs and memory.)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
work=$PWD/.cache/fuzz
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$work/target}
flags=(--fuzz-dir tests/fuzz --sanitizer none --release)
cargo fuzz build "${flags[@]}"
bin=$CARGO_TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release
UNDERTONE_SEEDS=$work/seeds CARGO_TARGET_DIR=target \
    cargo test --release --workspace --test corpora -- --ignored --exact seeds >/dev/null

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(ls tests/fuzz/targets | sed 's/\.rs$//')
echo "| target | CPU seconds | inputs tried | kept | peak MB | findings |"
echo "| :--- | ---: | ---: | ---: | ---: | ---: |"
for target in "${targets[@]}"; do
    corpus=$work/corpus/$target findings=$work/findings/$target log=$work/$target.log
    mkdir -p "$corpus" "$findings" "tests/fuzz/corpus/$target"
    # One input may take 20 s and 2 GB; the fuzzer reports more as findings and stops.
    TIMEFORMAT='%U %S'
    { time "$bin/$target" "$corpus" "tests/fuzz/corpus/$target" "$work/seeds/$target" \
        -artifact_prefix="$findings/" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=65536 \
        -print_final_stats=1 >"$log" 2>&1 || true; } 2>"$log.time"
    # A finding ends a target with an error and with its statistics; without statistics it never ran.
    grep --quiet '^stat::number_of_executed_units' "$log" || { tail "$log" >&2; exit 1; }
    stat() { sed -n "s/^stat::$1: *//p" "$log" | tail -n 1; }
    cpu=$(tail -n 1 "$log.time" | awk '{printf "%.0f", $1 + $2}')
    echo "| $target | $cpu | $(stat number_of_executed_units) | $(find "$corpus" -type f | wc -l) | $(stat peak_rss_mb) | $(find "$findings" -type f | wc -l) |"
done
