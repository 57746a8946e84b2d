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

# one NAME COMMAND...: a test that is a whole command.
one() {
    name=$1
    shift
    if said=$("$@" 2>&1); then
        echo "ok   $name $said"
        passed=$((passed + 1))
    else
        echo "FAIL $name"
        echo "$said" | sed 's/^/     /'
        failed=$((failed + 1))
    fi
}

# PTX is committed, with the sums of what it was made from: whoever changes one without `make ptx`
# is told so here. Who has the same compiler makes and assembles one module, another every day;
# `make ptx-check` does all of them.
one flag_of_a_step_is_released grep -q 'st\.release\.sys\.global\.u32' kernels/step.ptx
one ptx_is_of_these_sources kernels/check.sh sums_check
check=ptx_is_what_nvcc_makes_and_spills_nothing
NVCC=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
export NVCC
if [ ! -x "$NVCC" ]; then
    echo "skip $check: no nvcc"
    skipped=$((skipped + 1))
elif ! kernels/check.sh same_nvcc; then
    echo "skip $check: $("$NVCC" --version | grep release) is not what made it"
    skipped=$((skipped + 1))
else
    one "$check" env -u MAKEFLAGS -u MFLAGS make -s BUILD="$out" ptx-sample
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
