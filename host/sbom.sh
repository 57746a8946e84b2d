#!/bin/sh
# sbom.sh BUILD PROGRAM...: what the programs in BUILD are made of, read from the linker's maps
# (BUILD/PROGRAM.map): BUILD/wick.spdx, an SPDX 2.3 document, and BUILD/NOTICES, the licences of all
# that is not ours. Fails where a part comes from a package whose licence is not known here.
set -eu
build=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The licence of what a package puts into a program. GCC's own objects may be linked with anything.
licence_of() {
    case $1 in
    musl | musl-dev | libbearssl-dev) echo MIT ;;
    libgcc-*-dev) echo 'GPL-3.0-or-later WITH GCC-exception-3.1' ;;
    *)
        echo "sbom: $1 is linked in; say in host/sbom.sh what its licence is" >&2
        return 1
        ;;
    esac
}

# Objects and members of archives that the linker took from outside the tree: one path a line.
parts_of() {
    sed -nE -e 's/^(\/[^ (]+\.a)\(.*/\1/p' -e 's/^LOAD (\/[^ ]+\.o)$/\1/p' "$build/$1.map" | sort -u
}

package_of() {
    path=$(realpath "$1")
    found=$(dpkg-query -S "$path" 2>/dev/null) ||
        { echo "sbom: $1 is linked in and of no package" >&2; return 1; }
    echo "$found" | sed -E '1!d; s/(:[a-z0-9]+)?: .*//'
}

sum_of() {
    sha256sum "$1" | cut -d ' ' -f 1
}

# package ID NAME VERSION LICENCE COPYRIGHT
package() {
    printf '\nPackageName: %s\nSPDXID: SPDXRef-%s\nPackageVersion: %s\n' "$2" "$1" "$3"
    printf 'PackageDownloadLocation: NOASSERTION\nFilesAnalyzed: false\n'
    printf 'PackageLicenseConcluded: %s\nPackageLicenseDeclared: %s\n' "$4" "$4"
    printf 'PackageCopyrightText: %s\n' "$5"
}

for program in "$@"; do
    : >"$work/$program.packages"
    parts_of "$program" >"$work/parts"
    while read -r part; do
        package_of "$part" >>"$work/$program.packages"
    done <"$work/parts"
    sort -u -o "$work/$program.packages" "$work/$program.packages"
    [ -s "$work/$program.packages" ] || { echo "sbom: $build/$program.map names no part" >&2; exit 1; }
done
cat "$work"/*.packages | sort -u >"$work/packages"

seconds=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
version=$("$build/wick" --version | sed 's/.*build=//')
{
    printf 'SPDXVersion: SPDX-2.3\nDataLicense: CC0-1.0\nSPDXID: SPDXRef-DOCUMENT\n'
    printf 'DocumentName: wick\nDocumentNamespace: https://spdx.org/spdxdocs/wick-%s\n' "$version"
    printf 'Creator: Tool: host/sbom.sh\nCreated: %s\n' "$(date -u -d "@$seconds" +%Y-%m-%dT%H:%M:%SZ)"
    for program in "$@"; do
        package "$program" "$program" "$version" MIT "2026 The wick authors"
        printf 'PackageChecksum: SHA256: %s\n' "$(sum_of "$build/$program")"
        printf 'Relationship: SPDXRef-DOCUMENT DESCRIBES SPDXRef-%s\n' "$program"
        while read -r name; do
            printf 'Relationship: SPDXRef-%s STATIC_LINK SPDXRef-%s\n' "$program" "$name"
        done <"$work/$program.packages"
        printf 'Relationship: SPDXRef-%s CONTAINS SPDXRef-unicode-data\n' "$program"
    done
    while read -r name; do
        licence=$(licence_of "$name") || exit 1
        package "$name" "$name" "$(dpkg-query -W -f '${Version}\n' "$name" | head -n 1)" "$licence" \
            "see NOTICES"
    done <"$work/packages"
    # src/token/unicode_table.c, made from these files.
    package unicode-data "Unicode Character Database" 15.0.0 Unicode-DFS-2016 "1991-2022 Unicode, Inc."
} >"$work/wick.spdx"

{
    printf 'The programs of wick contain code of others. What is said of it by who made it:\n'
    while read -r name; do
        printf '\n=== %s: %s\n\n' "$name" "$(licence_of "$name")"
        file=/usr/share/doc/$name/copyright
        if [ -r "$file" ]; then cat "$file"; else printf 'See the package %s.\n' "$name"; fi
    done <"$work/packages"
    printf '\n=== Unicode Character Database 15.0.0: Unicode-DFS-2016\n\n'
    printf 'Copyright (c) 1991-2022 Unicode, Inc. Categories of characters, in src/token/unicode_table.c.\n'
    printf 'Terms: https://www.unicode.org/license.txt\n'
} >"$work/NOTICES"
mv "$work/wick.spdx" "$work/NOTICES" "$build/"
