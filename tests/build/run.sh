#!/bin/sh
# Checks of the built programs: what is linked in, what each segment may do, how large they are, and
# that another directory gives the same bytes. Ends with: N passed, N failed, N skipped.
set -u
build=${BUILD:-build}
wick=$build/wick
size_max=$((512 * 1024)) # bytes of wick without kernels
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# check NAME COMMAND...: passes when the command does; what it prints is shown when it fails.
check() {
    name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/     /' "$work/out"
    fi
}

skip() {
    skipped=$((skipped + 1))
    echo "skip $1: $2"
}

has_no_interpreter() {
    readelf -lW "$1" >"$work/headers" || return 1
    ! grep -E 'INTERP|DYNAMIC' "$work/headers"
}

# The four segments of linker/wick.ld, in that order, and nothing else to load.
segments_are_r_rx_rw_r() {
    flags=$(readelf -lW "$wick" | awk '$1 == "LOAD" {
        f = ""; for (i = 7; i < NF; i++) f = f $i; printf "%s ", f }')
    echo "segments: $flags"
    [ "$flags" = "R RE RW R " ]
}

stack_is_not_executable() {
    readelf -lW "$1" | grep GNU_STACK | tee "$work/stack" | grep -q 'RW ' &&
        ! grep -q 'RWE' "$work/stack"
}

# Names of C libraries for memory from the heap, for resolvers and for loading code at run time.
forbidden='(__libc_|__simple_|__malloc_|__)?(malloc|calloc|realloc|reallocarray|free|memalign|aligned_alloc|posix_memalign|valloc|strdup|getaddrinfo|gethostbyname|dlopen|dlsym)(_impl|_usable_size)?'

forbidden_symbols() {
    nm "$1" | awk '{ print $NF }' | grep -Ex "$forbidden"
}

links_nothing_forbidden() {
    nm "$wick.sym" | grep -q ' T main$' || { echo "no symbol table: nothing was checked"; return 1; }
    ! forbidden_symbols "$wick.sym"
}

# A check that cannot fail is none: the same pattern must find what a program with a heap links.
pattern_finds_a_heap() {
    printf '#include <stdlib.h>\nint main(int n, char **v) { return realloc(v, n) != 0; }\n' \
        >"$work/heap.c"
    ${MUSL_CC:-musl-gcc} -static "$work/heap.c" -o "$work/heap" || return 1
    forbidden_symbols "$work/heap" | grep -x realloc
}

is_small_enough() {
    ptx=$(readelf -SW "$wick" | sed -E 's/^ *\[ *[0-9]+\] //' | awk '$1 == ".ptx" { print $5 }')
    bytes=$(($(stat -c %s "$wick") - 0x${ptx:-0}))
    echo "$bytes bytes, at most $size_max"
    [ "$bytes" -lt "$size_max" ]
}

# As images/image.sh makes it where there is no driver: the same program to all who look.
runs_without_its_kernels() {
    objcopy --remove-section .ptx "$wick" "$work/bare" 2>"$work/objcopy.log" || return 1
    bytes=$(stat -c %s "$work/bare")
    echo "$bytes bytes"
    [ "$bytes" -lt "$size_max" ] || return 1
    [ "$("$work/bare" --version)" = "$("$wick" --version)" ] || return 1
    "$work/bare" model=images/tales-4m-Q8_0.gguf backend=cuda >"$work/bare.log" 2>&1
    grep 'without GPU kernels' "$work/bare.log"
}

# The build that was just made against one in a directory with another, longer name.
other_directory_gives_the_same_bytes() {
    other=$work/a-directory-with-another-name
    mkdir -p "$other/images"
    cp -r Makefile linker src kernels "$other/" && cp images/*.mk "$other/images/" || return 1
    [ ! -d boot ] || cp -r boot "$other/" || return 1
    (unset MAKEFLAGS MFLAGS BUILD && cd "$other" && make -s -j2 build/wick) || return 1
    cmp "$wick" "$other/build/wick"
}

build_id_is_the_one_in_the_note() {
    id=$(readelf -n "$wick" | sed -n 's/.*Build ID: //p')
    [ "${#id}" -eq 40 ] || { echo "no build id"; return 1; }
    "$wick" --version | grep -F "$id"
}

install_puts_all_programs_in_place() {
    (unset MAKEFLAGS MFLAGS && make -s BUILD="$build" install DESTDIR="$work/root" PREFIX=/usr) ||
        return 1
    for program in wick wick-lab wickctl; do
        [ -x "$work/root/usr/bin/$program" ] || { echo "no $program"; return 1; }
        cmp "$build/$program" "$work/root/usr/bin/$program" || return 1
        [ -s "$work/root/usr/share/bash-completion/completions/$program" ] || return 1
        [ -s "$work/root/usr/share/zsh/site-functions/_$program" ] || return 1
    done
    for page in LICENSE NOTICES wick.spdx; do
        [ -s "$work/root/usr/share/doc/wick/$page" ] || { echo "no $page"; return 1; }
    done
    for page in man8/wick.8 man1/wick-lab.1 man1/wickctl.1; do
        grep -q '^.SH "SYNOPSIS"' "$work/root/usr/share/man/$page" || { echo "no $page"; return 1; }
    done
}

# What is not ours: by the symbols that only these libraries have, not by the linker's map.
sbom_names_what_is_linked() {
    spdx=$work/root/usr/share/doc/wick/wick.spdx
    nm "$wick.sym" | grep -q ' br_sha256_init$' || return 1
    for program in wick wick-lab wickctl; do
        for part in musl-dev libbearssl-dev; do
            grep -qx "Relationship: SPDXRef-$program STATIC_LINK SPDXRef-$part" "$spdx" ||
                { echo "$program: no $part"; return 1; }
        done
        sum=$(sha256sum "$build/$program" | cut -d ' ' -f 1)
        grep -qx "PackageChecksum: SHA256: $sum" "$spdx" || { echo "$program: $sum"; return 1; }
    done
    # Each part that a relation names is described, with a version and a licence.
    sed -n 's/^Relationship: .* \(STATIC_LINK\|CONTAINS\) //p' "$spdx" | sort -u | while read -r id; do
        awk -v id="$id" '$1 == "SPDXID:" { here = $2 == id }
            here && /^Package(Version|LicenseConcluded): [^ ]/ { n++ }
            END { exit n != 2 }' "$spdx" || { echo "$id"; exit 1; }
    done
}

# A part whose licence nobody has looked at: any object of a package that is not on the list.
sbom_refuses_what_it_does_not_know() {
    stranger=$(find /usr/lib -path '*musl*' -prune -o -path '*gcc*' -prune -o -name 'crt1.o' -print |
        head -n 1)
    mkdir "$work/sbom"
    for file in wick wick.map; do cp "$build/$file" "$work/sbom/"; done
    host/sbom.sh "$work/sbom" wick || return 1
    echo "LOAD $stranger" >>"$work/sbom/wick.map"
    ! host/sbom.sh "$work/sbom" wick
}

# A clock that is set must not move a deadline: one file asks for the time, of the clock that nobody
# sets (tests/unit/test_clock.c).
one_file_asks_for_the_time() {
    objects=$(find "$build/obj/musl/src" "$build/obj/musl/boot" -name '*.o')
    # shellcheck disable=SC2086
    nm -A $objects | grep -E ' U (clock_gettime|clock_settime|clock_nanosleep|gettimeofday|time|ftime|localtime(_r)?|gmtime(_r)?|timer_create|timerfd_create|pthread_cond_timedwait|sem_timedwait)$' |
        tee "$work/clocks"
    [ "$(wc -l <"$work/clocks")" -eq 1 ] && grep -q 'src/base/clock.o:.* clock_gettime$' "$work/clocks"
}

# An empty root directory: nothing but the program itself is there to be found.
runs_in_an_empty_root() {
    mkdir -p "$work/empty"
    cp "$1" "$work/empty/program"
    env -i "$(command -v chroot)" "$work/empty" /program --help
}

demo_writes_a_text_and_ends() {
    BUILD=$build timeout 60 sh host/demo.sh images/tales-4m-Q8_0.gguf </dev/null || return 1
    grep -q '^Once upon a time .' "$work/out" || { echo "no text"; return 1; }
    grep -q ' end ' "$build/wick.log" || { echo "the server was not stopped"; return 1; }
}

demo_shows_why_a_model_is_refused() {
    ! BUILD=$build timeout 60 sh host/demo.sh README.md </dev/null && grep -q MODEL_LOAD_FAILED "$work/out"
}

check pattern_of_forbidden_symbols_finds_a_heap pattern_finds_a_heap
if [ -x "$wick" ]; then
    check wick_segments_are_r_rx_rw_r segments_are_r_rx_rw_r
    check wick_links_no_heap_resolver_or_loader links_nothing_forbidden
    check wick_is_under_512_kb is_small_enough
    check wick_runs_without_its_kernels runs_without_its_kernels
    check wick_asks_for_the_time_in_one_place one_file_asks_for_the_time
    check wick_tells_its_build_id build_id_is_the_one_in_the_note
    check wick_is_the_same_built_in_another_directory other_directory_gives_the_same_bytes
else
    skip wick "not built"
fi
for program in wick wick-lab wickctl; do
    if [ ! -x "$build/$program" ]; then
        skip "$program" "not built"
        continue
    fi
    check "${program}_is_static" has_no_interpreter "$build/$program"
    check "${program}_stack_is_not_executable" stack_is_not_executable "$build/$program"
    if [ "$(id -u)" -eq 0 ]; then
        check "${program}_runs_in_an_empty_root" runs_in_an_empty_root "$build/$program"
    else
        skip "${program}_runs_in_an_empty_root" "chroot needs root"
    fi
done
if [ -x "$wick" ] && [ -x "$build/wick-lab" ] && [ -x "$build/wickctl" ]; then
    check install_puts_all_programs_in_place install_puts_all_programs_in_place
    if command -v dpkg-query >/dev/null 2>&1; then
        check sbom_names_what_is_linked sbom_names_what_is_linked
        check sbom_refuses_what_it_does_not_know sbom_refuses_what_it_does_not_know
    else
        skip sbom "no dpkg: packages cannot be named"
    fi
    check demo_writes_a_text_and_ends demo_writes_a_text_and_ends
    check demo_shows_why_a_model_is_refused demo_shows_why_a_model_is_refused
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
