#!/bin/sh
# disk.sh: makes $OUT/disk.img, a disk that boots through UEFI and holds all that the appliance
# needs, without mounting anything or being root. First `make image` makes the kernel and initramfs.
#   partition 1  EFI system partition: one file, EFI/BOOT/BOOTX64.EFI, made of systemd's stub, the
#                kernel, the initramfs and the command line
#   partition 2  "wick-model": the GGUF file, byte for byte, no file system
#   OUT     folder of vmlinuz and initramfs, and of the disk ($BUILD/image/debian)
#   MODEL   the GGUF file
#   APPEND  more of the command line
# The same inputs give the same bytes. What was written is read back and compared.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-build}
out=${OUT:-$build/image/debian}
model=${MODEL:-$here/tales-4m-Q8_0.gguf}
stub=/usr/lib/systemd/boot/efi/linuxx64.efi.stub
mib=1048576
say() { echo "disk: $*" >&2; }
stop() {
    say "$*"
    exit 1
}
bytes() { stat -L -c %s "$1"; }

for file in "$out/vmlinuz" "$out/initramfs" "$model" "$stub"; do
    [ -r "$file" ] || stop "cannot read $file"
done
[ "$(head -c 4 "$model")" = GGUF ] || stop "$model is no GGUF file"
PATH=$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
disk=$out/disk.img
trap 'rm -rf "$work" "$disk.new"' EXIT

# --- the unified kernel image: sections added behind the stub's own -----------------------------

# shellcheck source=images/cmdline.sh
. "$here/cmdline.sh"
printf '%s wick.model=label:wick-model%s' "$(cmdline_base)" "${APPEND:+ $APPEND}" >"$work/cmdline"
printf 'NAME="wick"\nID=wick\n' >"$work/osrel"
alignment=$((0x$(objdump -p "$stub" | sed -nE 's/^SectionAlignment[[:space:]]+0*([0-9a-f]+)$/\1/p')))
round_up() { echo $((($1 + alignment - 1) / alignment * alignment)); }
end=0
# objdump -h: index, name, size, address, ... of each section.
objdump -h "$stub" | sed -nE 's/^ *[0-9]+ +[^ ]+ +([0-9a-f]+) +([0-9a-f]+) .*/\1 \2/p' >"$work/sections"
while read -r size address; do
    if [ $((0x$address + 0x$size)) -gt "$end" ]; then end=$((0x$address + 0x$size)); fi
done <"$work/sections"
# The kernel comes last: it may use room behind its file while it unpacks itself.
set --
for section in osrel:"$work/osrel" cmdline:"$work/cmdline" initrd:"$out/initramfs" \
    linux:"$out/vmlinuz"; do
    end=$(round_up "$end")
    set -- "$@" --add-section ".${section%%:*}=${section#*:}" \
        --change-section-vma ".${section%%:*}=$(printf '0x%x' "$end")"
    end=$((end + $(bytes "${section#*:}")))
done
objcopy "$@" "$stub" "$work/BOOTX64.EFI"
# objcopy writes the time of day, at 8 of the PE header, and a checksum over it, at 88; no firmware
# reads either.
pe=$(od -An -tu4 -j 60 -N 4 "$work/BOOTX64.EFI" | tr -d ' ')
for field in 8 88; do
    dd if=/dev/zero of="$work/BOOTX64.EFI" bs=1 seek=$((pe + field)) count=4 conv=notrunc status=none
done

# --- the EFI system partition: FAT32, which has at least 65525 clusters (of one sector) ---------

esp_mib=$(($(bytes "$work/BOOTX64.EFI") / mib + 40))
export TZ=UTC SOURCE_DATE_EPOCH=315532800 # 1980-01-01, where FAT's time begins
truncate -s "${esp_mib}M" "$work/esp"
mformat -i "$work/esp" -F -c 1 -N 5749434b -v WICK ::
mmd -i "$work/esp" ::/EFI ::/EFI/BOOT
touch -d "@$SOURCE_DATE_EPOCH" "$work/BOOTX64.EFI"
mcopy -m -i "$work/esp" "$work/BOOTX64.EFI" ::/EFI/BOOT/BOOTX64.EFI

# --- the disk: 1 MiB, ESP, model, 1 MiB for the second table -----------------------------------

model_mib=$((($(bytes "$model") + mib - 1) / mib))
# Identifiers follow from what is on the disk: two different disks never share them.
digest=$(cat "$work/BOOTX64.EFI" "$model" | sha256sum | cut -c 1-32)
guid() { # guid N: a version 4 UUID of the digest's digits and N
    echo "$digest" |
        sed -E "s/^(.{8})(.{4}).(.{3}).(.{3})(.{11})./\1-\2-4\3-8\4-\5$1/"
}
truncate -s $(((esp_mib + model_mib + 2) * mib)) "$disk.new"
sgdisk --clear --disk-guid="$(guid 0)" \
    --new=1:1M:+"${esp_mib}M" --typecode=1:ef00 --change-name=1:wick-boot --partition-guid=1:"$(guid 1)" \
    --new=2:$((1 + esp_mib))M:+"${model_mib}M" --typecode=2:8300 --change-name=2:wick-model \
    --partition-guid=2:"$(guid 2)" "$disk.new" >"$work/sgdisk" 2>&1 || {
    cat "$work/sgdisk" >&2
    stop "sgdisk failed"
}
dd if="$work/esp" of="$disk.new" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$model" of="$disk.new" bs=1M seek=$((1 + esp_mib)) conv=notrunc status=none

# --- read back: sgdisk can leave an empty table without failing ---------------------------------

sgdisk --verify "$disk.new" | grep -q '^No problems found' || stop "sgdisk finds fault with the table"
first_sector() { sgdisk --info="$1" "$disk.new" | sed -nE 's/^First sector: ([0-9]+) .*/\1/p'; }
[ "$(first_sector 1)" = 2048 ] || stop "the table that was written has no partition 1 at 1 MiB"
[ "$(first_sector 2)" = $(((1 + esp_mib) * 2048)) ] ||
    stop "the table that was written has no partition 2 at $((1 + esp_mib)) MiB"
sgdisk --info=2 "$disk.new" | grep -q "^Partition name: 'wick-model'" ||
    stop "the table that was written lacks the name wick-model"
cmp -s -n "$(bytes "$model")" -i 0:$(((1 + esp_mib) * mib)) "$model" "$disk.new" ||
    stop "the model on the disk is not the model"
mcopy -n -i "$disk.new@@1M" ::/EFI/BOOT/BOOTX64.EFI "$work/back"
cmp -s "$work/BOOTX64.EFI" "$work/back" ||
    stop "EFI/BOOT/BOOTX64.EFI on the disk is not what was written"

mv "$disk.new" "$disk"
printf '%s  %9d bytes  %s\n' \
    "disk     " "$(bytes "$disk")" "$disk, $(($(du -k "$disk" | cut -f 1) / 1024)) MiB of them not zero" \
    "  boot   " "$(bytes "$work/BOOTX64.EFI")" "EFI/BOOT/BOOTX64.EFI: $(cat "$work/cmdline")" \
    "  model  " "$(bytes "$model")" "$model"
