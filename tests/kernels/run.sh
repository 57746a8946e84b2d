#!/bin/sh
# Tests the kernels on the PTX machine, and that their PTX is what the source gives. A program of the
# suite ends with "N passed, N failed, N skipped", as this does, or is one test.
set -u
out=${BUILD:-build}
library=${LIBCUDA:-$out/ptx/libcuda.so.1}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0 failed=0 skipped=0

# suite PROGRAM ARGUMENTS...: one that ends badly without a failed test is a failure.
suite() {
    "$@" >"$log" 2>&1
    status=$?
    grep -vE '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log"
    counts=$(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped$/\1 \2 \3/p' "$log" |
        tail -n 1)
    read -r p f s <<END
${counts:-1 0 0}
END
    [ "$status" -eq 0 ] || [ -n "$counts" ] || p=0
    if [ "$status" -ne 0 ] && [ "$f" -eq 0 ]; then
        echo "FAIL $1 ended with $status"
        f=$((f + 1))
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}

for program in "$out"/kernels/test_*; do
    [ -x "$program" ] || continue
    suite "$program" "$library"
done

check=ptx_is_what_nvcc_makes_and_spills_nothing
# PTX is committed; who has the compiler checks that it is up to date, and assembles it.
if command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; then
    if (unset MAKEFLAGS MFLAGS && make -s BUILD="$out" ptx-check) >"$log" 2>&1; then
        echo "ok   $check"
        passed=$((passed + 1))
    else
        echo "FAIL $check"
        sed 's/^/     /' "$log"
        failed=$((failed + 1))
    fi
else
    echo "skip $check: no nvcc"
    skipped=$((skipped + 1))
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
