#!/bin/sh
# image.sh: makes the appliance's kernel and initramfs in $BUILD/image/$KERNEL (vmlinuz, initramfs).
#   KERNEL  debian (the cloud kernel, default), own (make kernel), host (the running machine's)
#   INIT    the program that becomes /init ($BUILD/wick)
#   NVIDIA  a folder with an unpacked driver, or host: puts the driver in (images/nvidia.sh)
#           NVIDIA_MODULES=no: its libraries only
#   KEY     a file with the key for TCP: becomes /wick.key, for wick.key=/wick.key
#   OUT     the folder to write to
# The same inputs give the same bytes: fixed times and owners, sorted names, no device nodes (the
# kernel's devtmpfs makes those, and its built-in initramfs has /dev/console).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-build}
nvidia=${NVIDIA:-}
kernel=${KERNEL:-$([ "$nvidia" = host ] && echo host || echo debian)}
init=${INIT:-$build/wick}
out=${OUT:-$build/image/$kernel${nvidia:+-nvidia}}
say() { echo "image: $*" >&2; }
stop() {
    say "$*"
    exit 1
}

# Where the kernel and its modules are: $vmlinuz, $modules.
case $kernel in
debian)
    tree=$("$here/debian_kernel.sh")
    modules=$(echo "$tree"/lib/modules/*)
    vmlinuz=$tree/boot/vmlinuz-${modules##*/}
    ;;
own)
    vmlinuz=$build/image/own/kernel/vmlinuz
    modules=$(echo "$build"/image/own/kernel/modules/*)
    [ -f "$vmlinuz" ] || stop "there is no kernel of our own yet: run 'make kernel'"
    ;;
host)
    modules=/lib/modules/$(uname -r)
    vmlinuz=/boot/vmlinuz-$(uname -r)
    ;;
*) stop "KERNEL=$kernel: want debian, own or host" ;;
esac
[ -r "$vmlinuz" ] || stop "cannot read the kernel $vmlinuz"
[ -f "$init" ] || stop "there is no $init: run 'make'"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
umask 022
# Mount points: devtmpfs, proc, sysfs, and tmpfs twice.
mkdir -p "$root/dev" "$root/proc" "$root/sys" "$root/run" "$root/tmp" "$root/etc" "$root/lib/modules"
# Without a driver the kernels for a GPU are 3 MB that nobody reads (linker/wick.ld).
if [ -n "$nvidia" ]; then
    install -m 755 "$init" "$root/init"
else
    objcopy --remove-section .ptx "$init" "$root/init" 2>"$work/objcopy.log" ||
        stop "objcopy of $init: $(cat "$work/objcopy.log")"
    chmod 755 "$root/init"
fi
: >"$root/etc/modules.list"
if [ -n "${KEY:-}" ]; then install -m 600 "$KEY" "$root/wick.key"; fi

# shellcheck source=images/modules.sh
. "$here/modules.sh"
# shellcheck source=images/nvidia.sh
. "$here/nvidia.sh"
modules_search "$modules"
if [ -n "$nvidia" ]; then nvidia_check "$nvidia"; fi
modules_add "$here/modules.list"
if [ "$kernel" = host ]; then modules_add_devices; fi
if [ -n "$nvidia" ]; then nvidia_add "$nvidia"; fi

mkdir -p "$out"
find "$root" -exec touch -h -d @0 {} +
(cd "$root" && find . -mindepth 1 | LC_ALL=C sort |
    cpio --quiet -o -H newc --reproducible -R 0:0) >"$work/initramfs.cpio"
# One thread: the frames' boundaries, and so the bytes, depend on nothing else. The hardest level
# takes minutes over a GPU's libraries and firmware.
level=-19
if [ -n "$nvidia" ]; then level=-9; fi
zstd -q $level -T1 --no-check -f "$work/initramfs.cpio" -o "$out/initramfs.new"
mv "$out/initramfs.new" "$out/initramfs"
install -m 644 "$vmlinuz" "$out/vmlinuz.new"
mv "$out/vmlinuz.new" "$out/vmlinuz"

bytes() { stat -L -c %s "$1"; }
printf '%s  %9d bytes  %s\n' \
    "kernel   " "$(bytes "$out/vmlinuz")" "$out/vmlinuz (${modules##*/})" \
    "initramfs" "$(bytes "$out/initramfs")" "$out/initramfs, $(bytes "$work/initramfs.cpio") unpacked" \
    "  init   " "$(bytes "$root/init")" "$init$([ -n "$nvidia" ] || echo ' without its GPU kernels')" \
    "  modules" "$(find "$root/lib/modules" -name '*.ko' -exec stat -c %s {} + |
        awk '{ n += $1 } END { print n + 0 }')" "$(wc -l <"$root/etc/modules.list") modules"
