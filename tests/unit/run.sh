#!/bin/sh
# Runs the Criterion tests and ends with one line: N passed, N failed, N skipped.
set -u
build=${BUILD:-build}
log=$build/unit.log
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}" # each test is a forked child; nothing allocates
"$build/unit" --jobs 2 --color=never "$@" >"$log" 2>&1
status=$?
cat "$log"
summary=$(sed -n 's/.*Synthesis: Tested: \([0-9]*\) | Passing: \([0-9]*\).*/\1 \2/p' "$log" | tail -n 1)
tested=${summary%% *}
passed=${summary##* }
if [ -z "$summary" ]; then
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi
failed=$((tested - passed))
if [ "$status" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
