# modules.sh: sourced by image.sh. Copies kernel modules, uncompressed and in load order, from
# $modules into $root/lib/modules, and lists them with their parameters in $root/etc/modules.list.
# shellcheck shell=sh disable=SC2154

# modules_search FOLDER ...: where modules are looked for, the first folder first.
modules_search() {
    for module_place in "$@"; do
        find "$module_place/" -type f \( -name '*.ko' -o -name '*.ko.xz' -o -name '*.ko.zst' \
            -o -name '*.ko.gz' \) | LC_ALL=C sort
    done >"$work/module.files"
}

# module_find NAME: the file of a module; '-' and '_' in its name are one.
module_find() {
    grep -E "/$(echo "$1" | sed 's/[-_]/[-_]/g')\.ko(\.[a-z]+)?\$" "$work/module.files" | head -n 1
}

# The kernel has it without a file. A package has modules.builtin, our own kernel everything.
module_is_built_in() {
    [ "$kernel" = own ] && return 0
    [ -f "$modules/modules.builtin" ] || return 1
    grep -qE "/$(echo "$1" | sed 's/[-_]/[-_]/g')\.ko\$" "$modules/modules.builtin"
}

# module_info FILE FIELD: the values of a field of the module's .modinfo section, one a line.
module_info() {
    objcopy -O binary --only-section=.modinfo "$1" "$work/modinfo" 2>/dev/null || return 1
    tr '\0' '\n' <"$work/modinfo" | sed -n "s/^$2=//p"
}

# module_unpack FROM TO
module_unpack() {
    case $1 in
    *.xz) xz -dc "$1" >"$2" ;;
    *.zst) zstd -qdc "$1" >"$2" ;;
    *.gz) gzip -dc "$1" >"$2" ;;
    *) cp "$1" "$2" ;;
    esac
}

# module_add NAME [PARAMETER=VALUE ...]: the module with what it depends on, once. Returns 1 when
# there is none.
module_add() (
    name=$1
    shift
    file=$(module_find "$name")
    if [ -z "$file" ]; then
        module_is_built_in "$name"
        return
    fi
    target=$(basename "$file" | sed 's/\.ko.*//')
    [ ! -e "$root/lib/modules/$target.ko" ] || return 0
    module_unpack "$file" "$root/lib/modules/$target.ko"
    chmod 644 "$root/lib/modules/$target.ko"
    for needed in $(module_info "$root/lib/modules/$target.ko" depends | tr ',' ' '); do
        module_add "$needed" || {
            say "module $target needs $needed, which is not under $modules"
            return 1
        }
    done
    echo "$target${*:+ $*}" >>"$root/etc/modules.list"
)

# modules_add LIST
modules_add() {
    sed -E 's/#.*//; s/[[:space:]]+$//; /^$/d' "$1" >"$work/modules.list"
    while read -r module_name module_parameters; do
        # shellcheck disable=SC2086
        case $module_name in
        \?*) module_add "${module_name#\?}" $module_parameters || true ;;
        *) module_add "$module_name" $module_parameters ||
            stop "module $module_name of ${1##*/} is not under $modules" ;;
        esac
    done <"$work/modules.list"
}

# The modules that drive the running machine's disks and network cards.
modules_add_devices() {
    for module_link in /sys/class/net/*/device/driver/module /sys/class/block/*/device/driver/module \
        /sys/class/nvme/*/device/driver/module /sys/class/scsi_host/*/device/../driver/module; do
        [ -e "$module_link" ] && basename "$(readlink -f "$module_link")"
    done | sort -u >"$work/devices.list"
    while read -r module_name; do
        module_add "$module_name" || stop "module $module_name of a device here is not under $modules"
    done <"$work/devices.list"
}
