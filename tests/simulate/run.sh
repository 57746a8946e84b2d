#!/bin/sh
# run.sh              the suite: seeds that failed once, a fixed range in which every fault must
#                     occur, and fresh seeds for FRESH_S seconds (60).
# run.sh SEED STEPS   lives from that seed on (drawn if empty) for so many turns: make simulate.
# A seed that fails prints its last events and the command that replays it.
set -u
simulate=${BUILD:-build}/simulate
out=$(mktemp)
trap 'rm -f "$out"' EXIT

seed_draw() {
    od -An -N4 -tu4 /dev/urandom | tr -d ' '
}

if [ $# -gt 0 ]; then
    seed=${1:-$(seed_draw)}
    echo "seed $seed"
    "$simulate" "$seed" "${2:-100000}"
    exit $?
fi

# 32: commands that waited were answered behind 261, the last line.
once_failed="32"
fixed="1 200000"
passed=0 failed=0

# one NAME COMMAND...: what a failed command says is shown.
one() {
    name=$1
    shift
    if "$@" >"$out" 2>&1; then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        cat "$out"
        failed=$((failed + 1))
    fi
}

once_failed_hold() {
    for life in $once_failed; do
        "$simulate" "$life" 1 || return 1
    done
}

digest_of() {
    "$simulate" "$@" | sed -n 's/.*digest //p'
}

seed_replays_exactly() {
    first=$(digest_of "$1" 4000)
    echo "seed $1: digests $first, $(digest_of "$1" 4000); of the next seed $(digest_of $(($1 + 1)) 4000)"
    [ -n "$first" ] && [ "$(digest_of "$1" 4000)" = "$first" ] &&
        [ "$(digest_of $(($1 + 1)) 4000)" != "$first" ]
}

# What is never seen is not tested.
every_fault_occurs() {
    "$simulate" $fixed || return 1
    ! grep -E '^ +0  ' "$out"
}

fresh=$(seed_draw)
echo "fresh seeds from $fresh: make simulate SEED=$fresh"
one seeds_that_failed_once_hold once_failed_hold
one the_same_seed_replays_exactly seed_replays_exactly "$fresh"
one fixed_seeds_hold_and_show_every_fault every_fault_occurs
one fresh_seeds_hold "$simulate" "$fresh" 1 for="${FRESH_S:-60}"
sed 's/^/  /' "$out"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
