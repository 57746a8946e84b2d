#!/bin/sh
# guest.sh: the init of the guest that tests images/passthrough.sh; busybox's sh runs it. The kernel
# command line says which part: test=iommu or test=none. One line a check, "ok NAME" or "FAIL NAME",
# and "done" at the end, on the console.
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /run /dev/vfio
exec </dev/null >/dev/console 2>&1
while read -r module; do insmod "/lib/modules/$module.ko"; done </etc/modules.list

devices=/sys/bus/pci/devices
# Where machine.sh put them.
edu=0000:00:04.0 rng=0000:00:05.0 vga=0000:00:06.0 net=0000:00:07.0 disk=0000:00:08.0
bridge=0000:00:09.0
driver_of() { basename "$(readlink "$devices/$1/driver" 2>/dev/null)"; }
# The two behind the bridge share a group; which bus it got is the firmware's choice.
shared=$(basename "$(echo $devices/$bridge/0*:01.0)")
shared_too=$(basename "$(echo $devices/$bridge/0*:02.0)")
[ -d "$devices/$bridge/$shared" ] || { # one bus further: the bridge may be a PCI Express port
    shared=$(basename "$(echo $devices/$bridge/*/0*:01.0)")
    shared_too=$(basename "$(echo $devices/$bridge/*/0*:02.0)")
}

check() { # check NAME COMMAND...
    name=$1
    shift
    if "$@" >/tmp.out 2>&1; then
        echo "ok $name"
    else
        echo "FAIL $name"
        sed 's/^/     /' /tmp.out
    fi
}
refuses() { # refuses TEXT OPTION...: passthrough.sh fails and says TEXT
    text=$1
    shift
    passthrough.sh "$@" >/said 2>&1 && { cat /said; echo "not refused"; return 1; }
    cat /said
    grep -qF -- "$text" /said
}
driver_is() { # driver_is DEVICE DRIVER: '' is none
    [ "$(driver_of "$1")" = "$2" ] || { echo "$1 has '$(driver_of "$1")', want '$2'"; return 1; }
}
override_is_clear() { [ "$(cat "$devices/$1/driver_override")" = "(null)" ]; }

bound() { passthrough.sh "$edu" && driver_is "$edu" vfio-pci; }
bound_twice() { passthrough.sh "$edu" | grep -c . ; driver_is "$edu" vfio-pci; }
used() { vfio_edu use "$edu"; }
held_is_not_undone() {
    mkfifo /hold
    vfio_edu hold "$edu" </hold >/held 2>&1 &
    exec 3>/hold
    tries=0
    until grep -q held /held || [ $tries -eq 20 ]; do tries=$((tries + 1)) && sleep 1; done
    refuses "is in use by vfio_edu" --undo "$edu"
    status=$?
    exec 3>&-
    wait
    return $status
}
undone() { passthrough.sh --undo "$edu" && driver_is "$edu" '' && override_is_clear "$edu"; }
rng_goes_and_comes() {
    driver_is "$rng" virtio-pci && passthrough.sh "$rng" && driver_is "$rng" vfio-pci &&
        passthrough.sh --undo "$rng" && driver_is "$rng" virtio-pci && override_is_clear "$rng"
}
dry_changes_nothing() {
    passthrough.sh --dry-run "$rng" 2>&1 | grep -qF "would go from virtio-pci to vfio-pci" &&
        driver_is "$rng" virtio-pci && override_is_clear "$rng"
}
interface_up_is_refused() {
    ip link set eth0 up
    refuses "eth0 is up" "$net"
    status=$?
    ip link set eth0 down
    driver_is "$net" virtio-pci && return $status
}
interface_down_is_taken() {
    passthrough.sh "$net" && driver_is "$net" vfio-pci && passthrough.sh --undo "$net" &&
        [ -e /sys/class/net/eth0 ]
}
disk_in_use_is_refused() {
    exec 4</dev/vda
    refuses "is in use by " "$disk"
    status=$?
    exec 4<&-
    return $status
}
only_root() {
    # A shell that is nobody; what it says goes through a pipe.
    su -s /bin/sh nobody -c "passthrough.sh $edu" >/said 2>&1 && return 1
    cat /said
    grep -qF "only root" /said && driver_is "$edu" ''
}
shared_is_refused() {
    refuses "$shared_too" "$shared" && driver_is "$shared" '' &&
        grep -qF "shares IOMMU group" /said
}
shared_goes_as_a_whole() {
    passthrough.sh "$shared" "$shared_too" && vfio_edu use "$shared" &&
        passthrough.sh --undo "$shared" "$shared_too" && driver_is "$shared" ''
}
user_gets_the_group() {
    passthrough.sh --user nobody "$edu" &&
        [ "$(stat -c %U "/dev/vfio/$(basename "$(readlink $devices/$edu/iommu_group)")")" = nobody ] &&
        passthrough.sh --undo "$edu"
}

case $(cat /proc/cmdline) in
*test=iommu*)
    check only_root_may_hand_over only_root
    check device_that_is_not_there_is_refused refuses "there is no such device" 0000:00:1e.7
    check bridge_is_refused refuses "is a bridge" "$bridge"
    check shared_group_is_refused_naming_the_other shared_is_refused
    check console_graphics_card_is_refused refuses "graphics card of this machine's console" "$vga"
    check network_interface_that_is_up_is_refused interface_up_is_refused
    check disk_in_use_is_refused disk_in_use_is_refused
    check undo_of_what_was_not_done_is_refused refuses "nothing to undo" --undo "$edu"
    check dry_run_changes_nothing dry_changes_nothing
    check device_is_bound_to_vfio_pci bound
    check binding_twice_is_once bound_twice
    check device_works_through_vfio used
    check device_in_use_is_not_undone held_is_not_undone
    check undo_leaves_no_driver_where_there_was_none undone
    check user_is_given_the_group user_gets_the_group
    check undo_gives_the_driver_back rng_goes_and_comes
    check interface_that_is_down_goes_and_comes_back interface_down_is_taken
    check shared_group_goes_as_a_whole shared_goes_as_a_whole
    ;;
*test=none*)
    check without_an_iommu_it_is_refused refuses "has no IOMMU group" "$edu"
    check without_an_iommu_nothing_is_changed driver_is "$edu" ''
    ;;
esac
echo "done"
poweroff -f
