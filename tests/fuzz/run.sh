#!/bin/sh
# Replays the committed corpus of every fuzz entry under ASan and UBSan.
# Ends with one line: N passed, N failed, N skipped.
set -u
build=${BUILD:-build}
passed=0 failed=0
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
for corpus in tests/fuzz/corpus/*/; do
    entry=$(basename "$corpus")
    if said=$("$build/fuzz/replay-$entry" "$corpus" 2>"$build/fuzz/$entry.err"); then
        echo "ok   $entry survives $said"
        passed=$((passed + 1))
    else
        echo "FAIL $entry: $said"
        tail -n 40 "$build/fuzz/$entry.err"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
