#!/bin/sh
# Assembles PTX and shows what its kernels take. Called by kernels.mk.
#   check.sh assemble FILE.ptx SM...   a line for each kernel: module kernel, then registers by GPU,
#                                      shared memory; fails where a register is spilled
#   check.sh table_check PAGE FILE...  those lines are the table in that page
#   check.sh sums FLAGS                what the PTX was made from and with
#   check.sh sums_check                nothing of that has changed since `make ptx`; needs no nvcc
#   check.sh same_nvcc                 the compiler here is the one that made the PTX
set -eu

assemble() {
    file=$1
    shift
    module=$(basename "$file" .ptx)
    for sm in "$@"; do
        "${PTXAS:-ptxas}" -v -arch="sm_$sm" "$file" -o /dev/null 2>&1 |
            awk -v sm="$sm" '
                /Compiling entry function/ { split($0, part, "\047"); kernel = part[2] }
                /spill stores/ { spills = $5 + $9; stack = $1 }
                /Used [0-9]+ registers/ {
                    match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5, RLENGTH - 5)
                    shared = 0
                    if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
                    print kernel, sm, registers, shared, spills, stack
                }
                /error|fatal/ { print > "/dev/stderr"; failed = 1 }
                END { exit failed }'
    done | awk -v module="$module" '
        {
            if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 }
            list[$1] = list[$1] " " $3; shared[$1] = $4
            if ($5 > 0 || $6 > 0) {
                print module, $1, "on sm_" $2 ":", $5, "bytes spilled,", $6, "of stack" \
                    > "/dev/stderr"
                failed = 1
            }
        }
        END {
            for (i = 1; i <= n; i++) print module, order[i] list[order[i]], shared[order[i]]
            if (n == 0) print module ": nothing was assembled" > "/dev/stderr"
            exit failed || n == 0
        }'
}

table_check() {
    page=$1
    shift
    wanted=$(mktemp)
    awk '{ gsub(" ", " | "); print "| " $0 " |" }' "$@" | sed -E 's/\| (\w+) \| (\w+)/| `\1` | `\2`/' >"$wanted"
    status=0
    awk '/^\| module \| kernel/ { n = 3 } !/^\|/ { n = 0 } n > 1 { n--; next } n' "$page" |
        diff - "$wanted" ||
        { echo "the registers in $page (<) are not those of the kernels (>)" >&2; status=1; }
    rm -f "$wanted"
    return $status
}

compiler() {
    "${NVCC:-nvcc}" --version | sed -n 's/.*\(release .*\)/\1/p'
}

files() {
    ls kernels/*.cu kernels/*.cuh kernels/*.h kernels/*.ptx
}

sums() {
    echo "# Written by make ptx. nvcc $(compiler)"
    echo "# nvcc $1"
    files | xargs sha256sum
}

sums_check() {
    grep -v '^#' kernels/ptx.sum | sha256sum --check --quiet ||
        { echo "kernels/*.ptx and its sources have changed since 'make ptx'; run it" >&2; return 1; }
    [ "$(files)" = "$(sed -n '/^#/! s/^[^ ]*  //p' kernels/ptx.sum)" ] ||
        { echo "kernels/ptx.sum lists other files; run: make ptx" >&2; return 1; }
}

same_nvcc() {
    head -n 1 kernels/ptx.sum | grep -qF "nvcc $(compiler)"
}

"$@"
