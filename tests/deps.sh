#!/bin/sh
# deps.sh build|check|lint...: installs the Debian packages of these groups that are missing, and
# says nothing when there are none.
set -eu

packages() {
    case $1 in
    build) echo "gcc libbearssl-dev libc6-dev linux-libc-dev musl-tools" ;;
    check) echo "libcriterion-dev mandoc python3 strace zsh" ;;
    fuzz) echo "clang libclang-rt-14-dev llvm-14" ;;
    lint) echo "clang-format clang-tidy" ;;
    image) echo "binutils cpio xz-utils zstd" ;;
    boot) echo "busybox-static gdisk mtools ovmf qemu-system-x86 systemd-boot-efi" ;;
    kernel) echo "bc binutils bison flex libelf-dev lz4 make xz-utils" ;;
    *)
        echo "deps.sh: unknown group '$1' (build, check, fuzz, lint, image, boot, kernel)" >&2
        exit 2
        ;;
    esac
}

wanted=
for group in "$@"; do wanted="$wanted $(packages "$group")"; done

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "deps: this is no Debian; see to it that these are there:$wanted" >&2
    exit 0
fi
missing=
for package in $wanted; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "deps: missing:$missing" >&2
        echo "deps: neither root nor sudo; as root run: apt-get install --no-install-recommends$missing" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A fresh image has no package lists; an old one has stale ones.
# shellcheck disable=SC2086
install_missing() {
    $sudo apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $missing
}
$sudo apt-get update -qq || echo "deps: apt-get update failed; trying with the lists there are" >&2
install_missing
