# nvidia.sh: sourced by image.sh. Puts NVIDIA's driver into $root: what nvidia.list names, and
# nothing else. The driver's parts must be of one version, and its modules made for the image's
# kernel; otherwise it would fail at boot, on a machine that has nobody to read why.
# NVIDIA_MODULES=no: user space alone goes in, neither modules nor firmware. For a kernel that has
# its driver built in or comes from elsewhere, and for the stand-in driver of the tests.
# shellcheck shell=sh disable=SC2154

# nvidia_file NAME: the file of that name (a pattern) under the driver's folders.
nvidia_file() {
    for nvidia_place in $nvidia_places; do
        [ -d "$nvidia_place" ] || continue
        find "$nvidia_place/" -name "$1" 2>/dev/null
    done | sort | head -n 1
}

# nvidia_library NAME: the file behind libNAME.so.N, or libNAME.so.VERSION where no link was made.
nvidia_library() {
    nvidia_found=$(nvidia_file "$1")
    [ -n "$nvidia_found" ] || nvidia_found=$(nvidia_file "${1%.so*}.so.*.*")
    [ -z "$nvidia_found" ] || readlink -f "$nvidia_found"
}

# The version that a firmware file is for: the folder's name, as the driver looks it up, or what the
# file itself says (a driver that was only unpacked has it in firmware/).
nvidia_firmware_version() {
    nvidia_folder=$(basename "$(dirname "$1")")
    case $nvidia_folder in
    [0-9]*.[0-9]*) echo "$nvidia_folder" ;;
    *)
        objcopy -O binary --only-section=.fwversion "$1" "$work/fwversion" 2>/dev/null || return 0
        tr -d '\0' <"$work/fwversion"
        ;;
    esac
}

nvidia_modules=${NVIDIA_MODULES:-yes}
case $nvidia_modules in
yes | no) ;;
*) stop "NVIDIA_MODULES=$nvidia_modules: want yes or no" ;;
esac

# nvidia_check DIR|host: sets $nvidia_version, or stops naming all three that should be one.
nvidia_check() {
    if [ "$1" = host ]; then
        nvidia_places="/lib/firmware/nvidia /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib/nvidia"
        [ "$kernel" = host ] || stop "NVIDIA=host takes the running machine's kernel too: KERNEL=host"
    else
        [ -d "$1" ] || stop "NVIDIA=$1: want a folder that holds an unpacked driver, or host"
        nvidia_places=$1
        modules_search "$1" "$modules"
    fi
    nvidia_ko=$(module_find nvidia)
    nvidia_gsp=$(nvidia_file 'gsp_*.bin')
    nvidia_cuda=$(nvidia_library libcuda.so.1)
    [ -n "$nvidia_cuda" ] || stop "NVIDIA=$1: no libcuda.so.1 or libcuda.so.VERSION"
    nvidia_cuda_version=$(basename "$nvidia_cuda" | sed 's/^libcuda\.so\.//')
    if [ "$nvidia_modules" = no ]; then
        nvidia_version=$nvidia_cuda_version
        return 0
    fi
    [ -n "$nvidia_ko" ] || stop "NVIDIA=$1: no nvidia.ko (compile it for the kernel ${modules##*/})"
    [ -n "$nvidia_gsp" ] || stop "NVIDIA=$1: no firmware gsp_*.bin"
    module_unpack "$nvidia_ko" "$work/nvidia.ko"
    nvidia_version=$(module_info "$work/nvidia.ko" version)
    nvidia_gsp_version=$(nvidia_firmware_version "$nvidia_gsp")
    if [ -z "$nvidia_version" ] || [ "$nvidia_version" != "$nvidia_gsp_version" ] ||
        [ "$nvidia_version" != "$nvidia_cuda_version" ]; then
        say "NVIDIA=$1: module, firmware and library must be of the same version, and are:"
        say "  ${nvidia_version:-unknown}  $nvidia_ko"
        say "  ${nvidia_gsp_version:-unknown}  $nvidia_gsp"
        say "  ${nvidia_cuda_version:-unknown}  $nvidia_cuda"
        exit 1
    fi
    nvidia_magic=$(module_info "$work/nvidia.ko" vermagic | cut -d ' ' -f 1)
    [ "$nvidia_magic" = "${modules##*/}" ] ||
        stop "$nvidia_ko is made for the kernel $nvidia_magic; the image's is ${modules##*/}"
}

# nvidia_add DIR|host: after nvidia_check.
nvidia_add() {
    mkdir -p "$root/gpu"
    sed -E 's/#.*//; s/[[:space:]]+$//; /^$/d' "$here/nvidia.list" >"$work/nvidia.list"
    while read -r nvidia_kind nvidia_name nvidia_parameters; do
        case $nvidia_modules:$nvidia_kind in
        no:module | no:firmware) continue ;;
        esac
        # shellcheck disable=SC2086
        case $nvidia_kind in
        module) module_add "$nvidia_name" $nvidia_parameters ||
            stop "NVIDIA=$1: no module $nvidia_name" ;;
        firmware) nvidia_add_firmware "$nvidia_name" ;;
        library | glibc) nvidia_add_library "$nvidia_kind" "$nvidia_name" "$1" ;;
        *) stop "nvidia.list: unknown kind '$nvidia_kind'" ;;
        esac
    done <"$work/nvidia.list"
    printf 'nvidia     %s  %s\n' "$nvidia_version" "$(cd "$root" && du -sk gpu lib/firmware 2>/dev/null |
        awk '{ printf "%s %.1f MiB  ", $2, $1 / 1024 }')"
}

nvidia_add_firmware() {
    mkdir -p "$root/lib/firmware/nvidia/$nvidia_version"
    find "$(dirname "$nvidia_gsp")" -maxdepth 1 -name "$1" >"$work/firmware.list"
    while read -r nvidia_from; do
        install -m 644 "$nvidia_from" "$root/lib/firmware/nvidia/$nvidia_version/"
    done <"$work/firmware.list"
}

# nvidia_add_library KIND NAME DIR: a library of the driver carries its version in its file's name. The
# C library comes with the folder, or is this machine's.
nvidia_add_library() {
    nvidia_name=${2#\?}
    nvidia_from=$(nvidia_library "$nvidia_name")
    if [ -z "$nvidia_from" ] && [ "$1" = glibc ]; then
        for nvidia_place in /lib/x86_64-linux-gnu /lib64 /usr/lib64; do
            [ -n "$nvidia_from" ] || [ ! -e "$nvidia_place/$nvidia_name" ] ||
                nvidia_from=$(readlink -f "$nvidia_place/$nvidia_name")
        done
    fi
    if [ -z "$nvidia_from" ]; then
        [ "$2" != "$nvidia_name" ] || stop "NVIDIA=$3: no $nvidia_name"
        return 0
    fi
    case $1:$nvidia_from in
    glibc:* | library:*.so."$nvidia_version") ;;
    *) stop "NVIDIA=$3: $nvidia_from is not of version $nvidia_version, as the rest is" ;;
    esac
    # libNAME.so: asked for with its version.
    case $nvidia_name in
    *.so) nvidia_name=${nvidia_from##*/} ;;
    esac
    install -m 755 "$nvidia_from" "$root/gpu/$nvidia_name"
}
