#!/bin/sh
# Assembles PTX and shows what its kernels take. Called by kernels.mk.
#   check.sh assemble FILE.ptx SM...   a line for each kernel: module kernel, then registers by GPU,
#                                      shared memory; fails where a register is spilled
#   check.sh table FILE...             those lines as a table
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

table() {
    echo "| module | kernel | registers: sm_80 | 86 | 89 | 90 | 100 | 120 | static shared, bytes |"
    echo "|---|---|---|---|---|---|---|---|---|"
    cat "$@" | awk '{ gsub(" ", " | "); print "| " $0 " |" }'
}

"$@"
