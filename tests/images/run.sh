#!/bin/sh
# What `make image` and `make disk` make, looked at from outside; a driver that is not one; and the
# commands that images/qemu.sh would run. Nothing is started. Ends with: N passed, N failed, N skipped.
# shellcheck disable=SC2317 # functions are called by name
set -u
export BUILD="${BUILD:-build}"
model=images/tales-4m-Q8_0.gguf
image_max=1048576 # bytes of the initramfs with the Debian kernel's modules
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

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
    exit
}

# says TEXT COMMAND...: the command fails and says TEXT.
refuses() {
    text=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "not refused; it said:"
        cat "$work/said"
        return 1
    fi
    grep -qF -- "$text" "$work/said" || {
        echo "refused, but without '$text':"
        cat "$work/said"
        return 1
    }
}

# --- commands ----------------------------------------------------------------------------------

touch "$work/vmlinuz" "$work/initramfs" "$work/disk.img"
dry() {
    images/qemu.sh --dry-run --vmlinuz "$work/vmlinuz" --initramfs "$work/initramfs" \
        --disk-image "$work/disk.img" "$@"
}
# command_has TEXT OPTION...: the QEMU command that these options make has TEXT in it.
command_has() {
    text=$1
    shift
    dry "$@" >"$work/command" || return 1
    grep -qF -- "$text" "$work/command" || {
        cat "$work/command"
        return 1
    }
}
check qemu_puts_the_protocol_on_hvc0 command_has 'virtconsole,chardev=wire' --wire null
check qemu_tells_a_panic_by_its_status command_has '-device pvpanic-pci' --accel tcg
check qemu_ends_at_a_reset command_has '-no-reboot' --image
check qemu_forwards_on_loopback_only command_has 'hostfwd=tcp:127.0.0.1:9000-10.0.2.15:7411' --port 9000
check qemu_appends_to_the_command_line command_has ' wick.slots=2 wick.log=debug' \
    --append wick.slots=2 --append wick.log=debug
check qemu_passes_a_device_through command_has 'vfio-pci,host=0000:01:00.0,bus=port0,rombar=0' \
    --gpu 01:00.0
check qemu_gives_a_passed_device_the_real_processor command_has '-accel kvm -cpu host' --gpu 01:00.0
check qemu_tells_ovmf_of_large_bars command_has 'opt/ovmf/X-PciMmio64Mb,string=524288' \
    --disk --gpu 0000:01:00.0
check qemu_adds_what_comes_behind_dashes command_has '-device edu' -- -device edu
check qemu_refuses_an_unknown_option refuses "unknown option --modle" dry --modle x
check qemu_refuses_a_bare_word refuses "'model' is no option" dry model
check qemu_refuses_a_missing_model refuses "cannot read $work/none.gguf" dry --model "$work/none.gguf"
check qemu_refuses_a_device_that_is_no_address refuses "want a PCI address" dry --gpu nvidia0
check qemu_refuses_passthrough_without_kvm refuses "--gpu needs KVM" dry --accel tcg --gpu 01:00.0
check qemu_refuses_words_for_a_disk refuses "command line of a disk is in it" dry --disk --append x=1

# --- initramfs ---------------------------------------------------------------------------------

[ -x "$BUILD/wick" ] || {
    echo "FAIL $BUILD/wick is not built"
    failed=$((failed + 1))
    finish
}
every_key_is_in_the_docs() {
    "$BUILD/wick" --help | sed -nE 's/^  ([a-z_]+)=.*/\1/p' >"$work/keys"
    [ -s "$work/keys" ] || return 1
    while read -r key; do
        grep -qF "| wick.$key |" docs/BOOTING.md || { echo "docs/BOOTING.md lacks wick.$key"; return 1; }
    done <"$work/keys"
}
check docs_have_every_key_of_the_command_line every_key_is_in_the_docs

if ! images/debian_kernel.sh >"$work/tree" 2>"$work/why"; then
    skipped=$((skipped + 1))
    echo "skip images: $(tail -n 1 "$work/why")"
    finish
fi
release=$(basename "$(cat "$work/tree")"/lib/modules/*)

make_image() { # make_image OUT [NAME=VALUE ...]
    out=$1
    shift
    env KERNEL=debian NVIDIA= INIT="$BUILD/wick" OUT="$out" "$@" images/image.sh
}
unpack() { # unpack OUT TO
    mkdir -p "$2" && zstd -qdc "$1/initramfs" >"$work/cpio" &&
        (cd "$2" && cpio --quiet -idm --no-absolute-filenames <"$work/cpio")
}
check image_is_made make_image "$work/a"
check image_unpacks unpack "$work/a" "$work/root"

is_at_most() { [ "$(stat -c %s "$1")" -le "$2" ] || { ls -l "$1"; return 1; }; }
check image_is_at_most_1_mib is_at_most "$work/a/initramfs" "$image_max"

same_bytes_another_time() (
    umask 077
    TZ=Asia/Tokyo make_image "$work/b" LC_ALL=C.UTF-8 && cmp "$work/a/initramfs" "$work/b/initramfs"
)
sleep 1
check image_has_the_same_bytes_another_time same_bytes_another_time

has_only_what_it_needs() {
    (cd "$work/root" && find . -mindepth 1 -maxdepth 2 | LC_ALL=C sort) >"$work/list"
    printf './%s\n' dev etc etc/modules.list init lib lib/modules proc run sys tmp >"$work/want"
    diff "$work/want" "$work/list"
}
check image_has_nothing_but_wick_and_modules has_only_what_it_needs

# cpio -tv: mode, links, owner, group ...
owned_by_root_without_devices() {
    cpio --quiet -tvn <"$work/cpio" | awk '
        $3 != 0 || $4 != 0 || $1 !~ /^[-d]r[w-][x-]r-[x-]r-[x-]$/ { print; bad = 1 }
        END { exit bad || NR == 0 }'
}
check image_belongs_to_root_and_has_no_devices owned_by_root_without_devices

modinfo_field() { # modinfo_field FILE FIELD
    objcopy -O binary --only-section=.modinfo "$1" "$work/modinfo"
    tr '\0' '\n' <"$work/modinfo" | sed -n "s/^$2=//p"
}
dependencies_come_first() {
    seen=' '
    while read -r module rest; do
        for needed in $(modinfo_field "$work/root/lib/modules/$module.ko" depends | tr ',' ' '); do
            case $seen in
            *" $(echo "$needed" | tr - _) "*) ;;
            *) echo "$module comes before $needed" && return 1 ;;
            esac
        done
        seen="$seen$(echo "$module" | tr - _) "
    done <"$work/root/etc/modules.list"
    [ "$seen" != ' ' ]
}
check image_lists_what_a_module_needs_in_front_of_it dependencies_come_first

lists_every_module_once() {
    (cd "$work/root/lib/modules" && find . -name '*.ko' | sed 's/^\.\///; s/\.ko$//') |
        LC_ALL=C sort >"$work/files"
    cut -d ' ' -f 1 "$work/root/etc/modules.list" | LC_ALL=C sort | diff - "$work/files"
}
check image_lists_every_module_once lists_every_module_once

# --- a driver that is not one ------------------------------------------------------------------

# fake_module FILE VERSION KERNEL DEPENDS: an object file that says of itself what a module says.
fake_module() {
    printf 'version=%s\0depends=%s\0vermagic=%s SMP mod_unload \0' "$2" "$4" "$3" >"$work/info"
    objcopy -I binary -O elf64-x86-64 --rename-section .data=.modinfo "$work/info" "$1"
}
# fake_driver DIR MODULE FIRMWARE LIBRARY KERNEL: a driver whose parts have these versions.
fake_driver() {
    rm -rf "$1"
    mkdir -p "$1/kernel" "$1/firmware/nvidia/$3" "$1/lib"
    fake_module "$1/kernel/nvidia.ko" "$2" "$5" ''
    fake_module "$1/kernel/nvidia-uvm.ko" "$2" "$5" nvidia
    fake_module "$1/kernel/nvidia-drm.ko" "$2" "$5" nvidia
    for file in gsp_ga10x.bin gsp_tu10x.bin other.bin; do echo "$file" >"$1/firmware/nvidia/$3/$file"; done
    for library in cuda nvidia-ptxjitcompiler nvidia-gpucomp nvidia-glcore; do
        echo "$library" >"$1/lib/lib$library.so.$4"
    done
    ln -s "libcuda.so.$4" "$1/lib/libcuda.so.1"
}
driver=$work/driver
one=550.54.14

gpu_image_has_exactly_the_list() {
    fake_driver "$driver" "$one" "$one" "$one" "$release"
    make_image "$work/gpu" NVIDIA="$driver" && unpack "$work/gpu" "$work/gpu.root" || return 1
    (cd "$work/gpu.root" && find gpu lib/firmware lib/modules/nvidia* -type f | LC_ALL=C sort) >"$work/list"
    printf '%s\n' gpu/ld-linux-x86-64.so.2 gpu/libc.so.6 gpu/libcuda.so.1 gpu/libdl.so.2 gpu/libm.so.6 \
        gpu/libnvidia-gpucomp.so."$one" gpu/libnvidia-ptxjitcompiler.so.1 gpu/libpthread.so.0 \
        gpu/librt.so.1 lib/firmware/nvidia/"$one"/gsp_ga10x.bin lib/firmware/nvidia/"$one"/gsp_tu10x.bin \
        lib/modules/nvidia-uvm.ko lib/modules/nvidia.ko >"$work/want"
    diff "$work/want" "$work/list" && grep -qx cuda "$work/gpu.root/gpu/libcuda.so.1"
}
gpu_modules_have_their_parameters() {
    tail -n 2 "$work/gpu.root/etc/modules.list" >"$work/tail"
    printf '%s\n' nvidia 'nvidia-uvm uvm_disable_hmm=1' | diff - "$work/tail"
}
all_three_are_named() { # all_three_are_named MODULE FIRMWARE LIBRARY
    fake_driver "$driver" "$1" "$2" "$3" "$release"
    refuses "must be of the same version" make_image "$work/none" NVIDIA="$driver" || return 1
    grep -qF "  $1  $driver/kernel/nvidia.ko" "$work/said" &&
        grep -qF "  $2  $driver/firmware/nvidia/$2/gsp_ga10x.bin" "$work/said" &&
        grep -qF "  $3  $driver/lib/libcuda.so.$3" "$work/said" && [ ! -e "$work/none" ]
}
another_kernels_module_is_refused() {
    fake_driver "$driver" "$one" "$one" "$one" 5.10.0-8-amd64
    refuses "is made for the kernel 5.10.0-8-amd64; the image's is $release" \
        make_image "$work/none" NVIDIA="$driver"
}
a_missing_part_is_named() { # a_missing_part_is_named FILES TEXT
    fake_driver "$driver" "$one" "$one" "$one" "$release"
    # shellcheck disable=SC2086
    (cd "$driver" && rm $1)
    refuses "$2" make_image "$work/none" NVIDIA="$driver"
}
firmware_speaks_for_itself() {
    fake_driver "$driver" "$one" "$one" "$one" "$release"
    printf '%s\0' "$1" >"$work/fwversion"
    objcopy -I binary -O elf64-x86-64 --rename-section .data=.fwversion "$work/fwversion" \
        "$driver/firmware/gsp_ga10x.bin"
    rm -r "$driver/firmware/nvidia"
    make_image "$work/gpu" NVIDIA="$driver"
}
an_old_part_is_named() {
    fake_driver "$driver" "$one" "$one" "$one" "$release"
    mv "$driver/lib/libnvidia-ptxjitcompiler.so.$one" "$driver/lib/libnvidia-ptxjitcompiler.so.470.1"
    refuses "libnvidia-ptxjitcompiler.so.470.1 is not of version $one" \
        make_image "$work/none" NVIDIA="$driver"
}
gpu_libraries_alone_need_no_modules() {
    fake_driver "$driver" "$one" "$one" "$one" "$release"
    rm -r "$driver/kernel" "$driver/firmware"
    refuses "no nvidia.ko" make_image "$work/none" NVIDIA="$driver" || return 1
    make_image "$work/gpu-alone" NVIDIA="$driver" NVIDIA_MODULES=no && unpack "$work/gpu-alone" "$work/gpu-alone.root" ||
        return 1
    [ -f "$work/gpu-alone.root/gpu/libcuda.so.1" ] && [ ! -e "$work/gpu-alone.root/lib/firmware" ] &&
        ! grep -q nvidia "$work/gpu-alone.root/etc/modules.list"
}
check gpu_image_has_exactly_what_the_list_names gpu_image_has_exactly_the_list
check gpu_modules_come_last_with_parameters gpu_modules_have_their_parameters
check gpu_library_of_another_version_is_refused all_three_are_named "$one" "$one" 535.1.2
check gpu_firmware_of_another_version_is_refused all_three_are_named "$one" 535.1.2 "$one"
check gpu_module_of_another_version_is_refused all_three_are_named 535.1.2 "$one" "$one"
check gpu_module_for_another_kernel_is_refused another_kernels_module_is_refused
check gpu_driver_without_module_is_refused a_missing_part_is_named kernel/nvidia.ko "no nvidia.ko"
check gpu_driver_without_uvm_is_refused a_missing_part_is_named kernel/nvidia-uvm.ko "no module nvidia-uvm"
check gpu_driver_without_firmware_is_refused a_missing_part_is_named '-r firmware' "no firmware gsp_"
check gpu_driver_without_library_is_refused a_missing_part_is_named 'lib/libcuda.so.1 lib/libcuda.so.550.54.14' \
    "no libcuda.so.1"
check gpu_driver_without_compiler_is_refused a_missing_part_is_named 'lib/libnvidia-ptxjitcompiler.so.550.54.14' \
    "no libnvidia-ptxjitcompiler.so.1"
check gpu_compiler_of_another_version_is_refused an_old_part_is_named
check gpu_firmware_outside_a_versions_folder_is_asked firmware_speaks_for_itself "$one"
check gpu_firmware_that_says_another_version_is_refused refuses "535.9" firmware_speaks_for_itself 535.9
check gpu_libraries_alone_need_no_modules gpu_libraries_alone_need_no_modules
check gpu_modules_setting_is_yes_or_no refuses "want yes or no" \
    make_image "$work/none" NVIDIA="$driver" NVIDIA_MODULES=0
check gpu_folder_that_is_none_is_refused refuses "want a folder" make_image "$work/none" NVIDIA="$work/nothing"

# --- disk --------------------------------------------------------------------------------------

PATH=$PATH:/usr/sbin:/sbin
if ! command -v sgdisk >/dev/null || ! command -v mformat >/dev/null ||
    [ ! -e /usr/lib/systemd/boot/efi/linuxx64.efi.stub ]; then
    skipped=$((skipped + 1))
    echo "skip disk: gdisk, mtools or systemd-boot-efi is not installed: run 'make deps-boot'"
    finish
fi
make_disk() { # make_disk OUT [NAME=VALUE ...]
    out=$1
    shift
    env OUT="$out" MODEL="$model" "$@" images/disk.sh
}
check disk_is_made make_disk "$work/a"

partition() { sgdisk --info="$1" "$work/a/disk.img"; }
model_is_on_its_partition() {
    partition 2 | grep -qF "Partition name: 'wick-model'" || return 1
    start=$(partition 2 | sed -nE 's/^First sector: ([0-9]+) .*/\1/p')
    cmp -n "$(stat -c %s "$model")" -i 0:$((start * 512)) "$model" "$work/a/disk.img"
}
esp_holds_kernel_and_initramfs() {
    partition 1 | grep -qF 'EFI system partition' || return 1
    mcopy -n -i "$work/a/disk.img@@1M" ::/EFI/BOOT/BOOTX64.EFI "$work/uki" || return 1
    for section in linux:vmlinuz initrd:initramfs; do
        objcopy -O binary --only-section=".${section%:*}" "$work/uki" "$work/section"
        # objcopy fills a section up; what comes first must be the file.
        cmp -n "$(stat -c %s "$work/a/${section#*:}")" "$work/section" "$work/a/${section#*:}" || return 1
    done
}
same_disk_another_time() {
    cp "$work/a/vmlinuz" "$work/a/initramfs" "$work/b" && make_disk "$work/b" TZ=Asia/Tokyo &&
        cmp "$work/a/disk.img" "$work/b/disk.img"
}
command_line_is_in_it() {
    make_disk "$work/b" APPEND="wick.slots=2" && mcopy -n -i "$work/b/disk.img@@1M" \
        ::/EFI/BOOT/BOOTX64.EFI "$work/uki" || return 1
    objcopy -O binary --only-section=.cmdline "$work/uki" "$work/section"
    grep -qa 'wick.model=label:wick-model wick.slots=2' "$work/section"
}
check disk_has_the_model_byte_for_byte model_is_on_its_partition
check disk_has_kernel_and_initramfs_in_one_file esp_holds_kernel_and_initramfs
check disk_has_the_same_bytes_another_time same_disk_another_time
check disk_takes_more_of_the_command_line command_line_is_in_it
disk_refuses() { refuses "$1" make_disk "$work/b" MODEL="$2"; }
check disk_refuses_a_model_that_is_none disk_refuses "is no GGUF file" Makefile
check disk_refuses_a_missing_model disk_refuses "cannot read" "$work/none.gguf"

finish
