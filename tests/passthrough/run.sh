#!/bin/sh
# images/passthrough.sh for real: a Debian guest with an emulated IOMMU and QEMU's edu device, in
# software emulation; the script binds the device, and a small VFIO client uses it. A second guest has
# no IOMMU. No root rights, no KVM, no GPU. Ends with: N passed, N failed, N skipped.
set -u
export BUILD="${BUILD:-build}"
here=tests/passthrough
work=$(mktemp -d)
qemu=
trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null; rm -rf "$work"' EXIT
passed=0 failed=0
say_and_end() {
    echo "$passed passed, $failed failed, ${1:-0} skipped"
    [ "$failed" -eq 0 ]
    exit
}
skip() {
    echo "skip passthrough: $1"
    say_and_end 1
}

command -v qemu-system-x86_64 >/dev/null || skip "qemu-system-x86 is not installed: make deps-check"
command -v cpio >/dev/null || skip "cpio is not installed: make deps-check"
busybox=$(command -v busybox) || skip "busybox-static is not installed: make deps-check"
tree=$(images/debian_kernel.sh 2>"$work/why") || skip "$(tail -n 1 "$work/why")"
modules=$(echo "$tree"/lib/modules/*)
vmlinuz=$tree/boot/vmlinuz-${modules##*/}

# The guest's root: busybox, the script, the client, modules with what they need.
root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/etc" "$root/lib/modules"
cp "$busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
cp images/passthrough.sh "$root/bin/passthrough.sh"
cp "$here/guest.sh" "$root/init"
chmod 755 "$root/init" "$root/bin/passthrough.sh"
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
${MUSL_CC:-musl-gcc} -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -static -O2 -idirafter /usr/include \
    -idirafter /usr/include/x86_64-linux-gnu "$here/vfio_edu.c" -o "$root/bin/vfio_edu" || {
    failed=1
    say_and_end
}
: >"$root/etc/modules.list"
kernel=debian
say() { echo "passthrough: $*" >&2; }
# shellcheck source=images/modules.sh
. images/modules.sh
modules_search "$modules"
for module in virtio_pci virtio-rng virtio_net virtio_blk vfio_iommu_type1 vfio-pci; do
    module_add "$module" || {
        echo "FAIL the kernel package has no module $module"
        failed=1
        say_and_end
    }
done
(cd "$root" && find . -mindepth 1 | cpio --quiet -o -H newc) | gzip -1 >"$work/initramfs"
head -c 1M /dev/zero >"$work/disk"

# guest NAME SECONDS MACHINE COMMAND-LINE [QEMU option ...]: runs a guest to its end, or kills it.
guest() {
    name=$1 seconds=$2 machine=$3 line=$4
    shift 4
    : >"$work/$name.log"
    qemu-system-x86_64 -M "$machine" -accel tcg -cpu qemu64 -smp 1 -m 384 -nodefaults -no-user-config \
        -display none -no-reboot -serial "file:$work/$name.log" -kernel "$vmlinuz" \
        -initrd "$work/initramfs" "$@" \
        -append "console=ttyS0 quiet panic=-1 tsc_early_khz=1000000 no_timer_check $line" \
        -device edu,addr=4 -device virtio-rng-pci,addr=5 -device VGA,addr=6 \
        -netdev user,id=net,restrict=on \
        -device virtio-net-pci,addr=7,netdev=net,romfile= -drive "if=none,id=disk,format=raw,readonly=on,file=$work/disk" \
        -device virtio-blk-pci,addr=8,drive=disk -device pcie-pci-bridge,addr=9,id=bridge \
        -device edu,bus=bridge,addr=1 -device edu,bus=bridge,addr=2 </dev/null >"$work/$name.qemu" 2>&1 &
    qemu=$!
    waited=0
    while kill -0 "$qemu" 2>/dev/null && [ "$waited" -lt "$seconds" ]; do
        sleep 1
        waited=$((waited + 1))
    done
    kill "$qemu" 2>/dev/null
    wait "$qemu"
    status=$?
    qemu=
    tr -d '\r' <"$work/$name.log" | grep -E '^(ok|FAIL|     ) ?' | sed 's/^ok /ok   /'
    passed=$((passed + $(grep -c '^ok ' "$work/$name.log")))
    failed=$((failed + $(grep -c '^FAIL ' "$work/$name.log")))
    if [ "$status" -ne 0 ] || ! tr -d '\r' <"$work/$name.log" | grep -qx 'done'; then
        failed=$((failed + 1))
        echo "FAIL guest_$name ended with status $status after $waited s, without saying done:"
        head -n 5 "$work/$name.qemu"
        tail -n 20 "$work/$name.log"
    fi
}

# Without interrupt remapping, vfio refuses to hand anything to a guest.
guest iommu 300 q35,kernel-irqchip=split,sata=off "intel_iommu=on test=iommu" \
    -device intel-iommu,intremap=on
guest none 120 q35,sata=off "test=none"
say_and_end
