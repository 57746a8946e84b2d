#!/bin/sh
# Tests the PTX machine and the stand-in for libcuda.so.1. Each program of the suite ends with
# "N passed, N failed, N skipped"; so does this.
set -u
out=${BUILD:-build}/ptx
library=$out/libcuda.so.1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

# suite PROGRAM ARGUMENTS...: one that says nothing, or ends badly without a failed test, failed.
suite() {
    "$@" >"$log" 2>&1
    status=$?
    grep -vE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log"
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" |
        tail -n 1)
    read -r p f s <<END
${counts:-0 0 0}
END
    if [ -z "$counts" ] || { [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; }; then
        echo "FAIL $1 ended with $status"
        f=$((f + 1))
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

# one NAME COMMAND...: a test that is a whole command.
one() {
    name=$1
    shift
    if "$@"; then
        echo "ok   $name"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        failed=$((failed + 1))
    fi
}

one vectors_are_what_the_isa_derivation_gives python3 tests/ptx/vectors/derive.py --check
one every_opcode_of_the_kernels_has_a_vector python3 tests/ptx/vectors/coverage.py
suite "$out/test_machine" tests/ptx/cases
suite "$out/run_vectors" "$library" tests/ptx/vectors
suite "$out/test_standin" "$library"

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
