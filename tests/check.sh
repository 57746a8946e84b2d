#!/bin/sh
# Runs every suite (tests/*/run.sh, tests/*/run.py), adds their results up, and ends with one line:
# N passed, N failed. The system suite, which looks at latencies, has the machine for itself, last:
# a machine that was just started or given other work may be slow for its first minutes. The others
# run two at a time. A suite ends with "N passed, N failed, N skipped" and its exit
# status. Each line it says appears behind its name, but of the tests that pass only every 25th, as
# progress, unless V=1; $BUILD/check/SUITE.log has them all. What failed is told again at the end.
# JOBS=1 runs one suite after the other.
set -u
export BUILD="${BUILD:-build}"
logs=$BUILD/check

# Criterion's way of passing a test is to say nothing.
shown() {
    awk -v name="$1" -v all="${V:-0}" '
        /^(ok  |skip|\[PASS\])/ { done++ }
        /^(ok  |\[PASS\])/ && all != 1 {
            if (done % 25 == 0) { print name ": " done " tests so far"; fflush() }
            next
        }
        { print name ": " $0; fflush() }'
}

# check.sh one SUITE
if [ "${1:-}" = one ]; then
    name=$(basename "$(dirname "$2")")
    case $2 in
    *.py) runner=python3 ;;
    *) runner=sh ;;
    esac
    began=$(date +%s)
    { "$runner" "$2" 2>&1; echo $? >"$logs/$name.status"; } | tee "$logs/$name.log" | shown "$name"
    echo $(($(date +%s) - began)) >"$logs/$name.seconds"
    exit 0
fi

rm -rf "$logs"
mkdir -p "$logs"
# The long ones first, so that the end is not one of them alone.
suites=
for name in reference qemu kernels; do
    for suite in tests/$name/run.sh tests/$name/run.py; do
        [ ! -f "$suite" ] || suites="$suites $suite"
    done
done
for suite in tests/*/run.sh tests/*/run.py; do
    case " $suites tests/system/run.py " in
    *" $suite "*) ;;
    *) [ ! -f "$suite" ] || suites="$suites $suite" ;;
    esac
done
# shellcheck disable=SC2086
printf '%s\n' $suites | xargs -n 1 -P "${JOBS:-2}" "$0" one
"$0" one tests/system/run.py
suites="$suites tests/system/run.py"

# What a suite says of its failed tests: each line, and what is said below it until the next test.
failures() {
    awk '/^(FAIL|not ok|\[FAIL\]|\[----\])/ { left = 40 }
         /^(ok  |skip|[0-9]+ passed|\[====\])/ { left = 0 }
         left-- > 0 { print "      " $0 }' "$1" | head -n 120
}

passed=0 failed=0 skipped=0 broken=
echo "== summary"
for suite in $suites; do
    name=$(basename "$(dirname "$suite")")
    status=$(cat "$logs/$name.status")
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' \
        "$logs/$name.log" | tail -n 1)
    # A suite that says nothing, or fails without a failed test, is one failure.
    [ -n "$counts" ] || counts="0 1 0"
    read -r p f s <<END
$counts
END
    if [ "${status:-1}" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    printf '  %-12s %6d passed %5d failed %5d skipped %5d s\n' "$name" "$p" "$f" "$s" \
        "$(cat "$logs/$name.seconds")"
    [ "$f" -eq 0 ] || broken="$broken $name"
done
[ "$skipped" -eq 0 ] || echo "  $skipped skipped: each says why above"
for name in $broken; do
    echo "== FAILED in $name ($logs/$name.log, status $(cat "$logs/$name.status")):"
    failures "$logs/$name.log"
    echo "      its last lines:"
    tail -n 4 "$logs/$name.log" | sed 's/^/      /'
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
