#!/bin/sh
# fuzz.sh SECONDS ENTRY...: runs libFuzzer on each entry for that long, as many at once as there are
# processors. New inputs go to BUILD/fuzz/corpus/ENTRY, what breaks to BUILD/fuzz/ENTRY-crash-*.
set -u
build=${BUILD:-build}
seconds=$1
shift

if [ "$seconds" = one ]; then # fuzz.sh one SECONDS ENTRY
    seconds=$1 entry=$2
    corpus=$build/fuzz/corpus/$entry log=$build/fuzz/$entry.log
    mkdir -p "$corpus"
    ASAN_OPTIONS=detect_leaks=0 "$build/fuzz/$entry" "$corpus" "tests/fuzz/corpus/$entry" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=16384 \
        -artifact_prefix="$build/fuzz/$entry-" -print_final_stats=1 >"$log" 2>&1
    status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    covered=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -n 1)
    if [ $status -eq 0 ]; then
        printf '  %-10s %12s executions, %6s edges covered, no finding\n' "$entry" "$runs" "$covered"
    else
        printf '  %-10s FINDING after %s executions: see %s\n' "$entry" "${runs:-?}" "$log"
    fi
    exit $status
fi

echo "fuzz: $* for $seconds s each"
printf '%s\n' "$@" | BUILD=$build xargs -P "$(nproc)" -n 1 "$0" one "$seconds"
