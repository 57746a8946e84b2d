#!/bin/sh
# Runs every suite (tests/*/run.sh, tests/*/run.py), adds their results up, and ends with one line:
# N passed, N failed. A suite ends with "N passed, N failed, N skipped" and its exit status.
set -u
export BUILD="${BUILD:-build}"
logs=$BUILD/check
mkdir -p "$logs"
passed=0 failed=0 skipped=0
table=

for suite in tests/*/run.sh tests/*/run.py; do
    [ -f "$suite" ] || continue
    name=$(basename "$(dirname "$suite")")
    log=$logs/$name.log
    printf '== %s\n' "$name"
    began=$(date +%s)
    case $suite in
    *.py) runner=python3 ;;
    *) runner=sh ;;
    esac
    { "$runner" "$suite" 2>&1; echo $? >"$log.status"; } | tee "$log"
    status=$(cat "$log.status")
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" |
        tail -n 1)
    # A suite that says nothing, or fails without a failed test, is one failure.
    [ -n "$counts" ] || counts="0 1 0"
    read -r p f s <<END
$counts
END
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    row=$(printf '  %-12s %6d passed %5d failed %5d skipped %5d s' "$name" "$p" "$f" "$s" \
        $(($(date +%s) - began)))
    table="$table$row
"
done

printf '== summary\n%s' "$table"
[ "$skipped" -eq 0 ] || echo "  $skipped skipped: each says why above"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
