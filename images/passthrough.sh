#!/bin/sh
# passthrough.sh: hands PCI devices to vfio-pci, so that a virtual machine may have them, and takes
# them back. As root. `passthrough.sh --help` has the options.
set -eu
state=/run/wick-passthrough # one file a device: the driver it had
pci=/sys/bus/pci

help() {
    cat <<END
usage: images/passthrough.sh [--undo] [--dry-run] [--user NAME] PCI ...

  PCI          a function's address as lspci -D shows it: 0000:01:00.0, or 01:00.0. An IOMMU group goes
               as a whole: a graphics card's sound function is named beside it
  --undo       give the devices back to the drivers that they had
  --user NAME  who may use them in a virtual machine without being root
  --dry-run    check everything, say what would be done, change nothing

The host must have an IOMMU that is switched on (VT-d or AMD-Vi in the firmware; Intel: intel_iommu=on).
END
}

say() { echo "passthrough: $*" >&2; }
stop() {
    say "$*"
    exit 1
}

undo=no dry=no user='' devices=''
while [ $# -gt 0 ]; do
    case $1 in
    --undo) undo=yes ;;
    --dry-run) dry=yes ;;
    --user)
        [ $# -ge 2 ] || stop "--user needs a name; see --help"
        user=$2
        shift
        ;;
    --help | -h)
        help
        exit 0
        ;;
    [0-9a-f][0-9a-f]:[0-9a-f][0-9a-f].[0-7]) devices="$devices 0000:$1" ;;
    [0-9a-f][0-9a-f][0-9a-f][0-9a-f]:[0-9a-f][0-9a-f]:[0-9a-f][0-9a-f].[0-7]) devices="$devices $1" ;;
    *) stop "'$1' is neither an option nor a PCI address such as 0000:01:00.0; see --help" ;;
    esac
    shift
done
[ -n "$devices" ] || stop "which device? see --help"

# --- facts about a device -----------------------------------------------------------------------

link_name() { # link_name FILE: the last part of what a link points to, nothing when there is none
    [ ! -e "$1" ] || basename "$(readlink -f "$1")"
}
driver_of() { link_name "$pci/devices/$1/driver"; }
group_of() { link_name "$pci/devices/$1/iommu_group"; }
is_bridge() { # class 0x06xxxx
    case $(cat "$pci/devices/$1/class") in 0x06*) return 0 ;; esac
    return 1
}
is_named() { # whether the caller named this device
    case " $devices " in *" $1 "*) return 0 ;; esac
    return 1
}

# The processes that have one of these files open: "NAME(PID) ...".
users_of() {
    for fd in /proc/[0-9]*/fd/*; do
        opened=$(readlink "$fd" 2>/dev/null) || continue
        for file in "$@"; do
            [ "$opened" = "$file" ] || continue
            process=${fd#/proc/}
            process=${process%%/*}
            echo "$(cat "/proc/$process/comm" 2>/dev/null)($process)"
        done
    done | sort -u | tr '\n' ' '
}

# The device nodes that belong to a device; NVIDIA's driver tells sysfs of none.
nodes_of() {
    find "$pci/devices/$1/" -name uevent -exec sed -n 's|^DEVNAME=|/dev/|p' {} + 2>/dev/null |
        sed 's|/dev//dev/|/dev/|'
    case $(driver_of "$1") in
    nvidia) ls -d /dev/nvidia[0-9]* /dev/nvidiactl /dev/nvidia-uvm 2>/dev/null || true ;;
    esac
}

# --- refusals ----------------------------------------------------------------------------------

check_exists() {
    [ -e "$pci/devices/$1" ] || stop "$1: there is no such device (lspci -D lists them)"
    ! is_bridge "$1" || stop "$1: is a bridge; name the device behind it"
}

check_group() {
    group=$(group_of "$1")
    [ -n "$group" ] || stop "$1: has no IOMMU group: the IOMMU is off or there is none. Switch VT-d or\
 AMD-Vi on in the firmware's setup; on Intel, boot with intel_iommu=on"
    others=
    for other in "$pci/devices/$1/iommu_group/devices"/*; do
        other=${other##*/}
        if is_named "$other" || is_bridge "$other"; then continue; fi
        if [ "$(driver_of "$other")" = vfio-pci ]; then continue; fi
        others="$others $other"
    done
    [ -z "$others" ] || stop "$1: shares IOMMU group $group with$others: what one of them may reach in\
 memory, the others may. Name them too, or put the card into another slot"
}

check_unused() {
    if [ "$(cat "$pci/devices/$1/boot_vga" 2>/dev/null)" = 1 ]; then
        stop "$1: is the graphics card of this machine's console; make another the first in the firmware"
    fi
    for interface in "$pci/devices/$1"/net/* "$pci/devices/$1"/virtio*/net/*; do
        [ -e "$interface" ] || continue
        # Bit 0: IFF_UP
        [ $(($(cat "$interface/flags") & 1)) -eq 0 ] ||
            stop "$1: its network interface ${interface##*/} is up; take it down first"
    done
    nodes=$(nodes_of "$1")
    for node in $nodes; do
        ! grep -q "^$node " /proc/mounts || stop "$1: its disk $node is mounted"
        ! grep -q "^$node " /proc/swaps || stop "$1: its disk $node is swapped to"
    done
    # shellcheck disable=SC2086
    users=$(users_of $nodes)
    [ -z "$users" ] || stop "$1: is in use by $users"
}

check_root() {
    [ "$dry" = yes ] || [ "$(id -u)" -eq 0 ] || stop "only root may hand a device over (sudo)"
}

# --- doing it ----------------------------------------------------------------------------------

# put TEXT FILE: one write to a file of sysfs; false when the kernel refuses it.
put() {
    echo "$1" 2>/dev/null >"$2"
}

vfio_load() {
    [ -e $pci/drivers/vfio-pci ] || modprobe vfio-pci 2>/dev/null || true
    [ -e $pci/drivers/vfio-pci ] || stop "this kernel has no vfio-pci (modprobe vfio-pci)"
}

# give DEVICE DRIVER: unbinds it, and lets the kernel bind it to DRIVER; '' is any that wants it.
give() {
    put "$2" "$pci/devices/$1/driver_override" || return 1
    if [ -e "$pci/devices/$1/driver" ]; then put "$1" "$pci/devices/$1/driver/unbind" || return 1; fi
    # Nobody takes it: an error on some kernels, and what the caller looks at next.
    put "$1" $pci/drivers_probe || true
    [ -z "$2" ] || [ "$(driver_of "$1")" = "$2" ]
}

hand_over() {
    driver=$(driver_of "$1")
    if [ "$driver" = vfio-pci ]; then
        say "$1: has vfio-pci already"
        return
    fi
    if [ "$dry" = yes ]; then
        say "$1: would go from ${driver:-no driver} to vfio-pci, IOMMU group $(group_of "$1")"
        return
    fi
    mkdir -p "$state"
    echo "$driver" >"$state/$1"
    if ! give "$1" vfio-pci; then
        give "$1" '' || true
        rm -f "$state/$1"
        stop "$1: vfio-pci did not take it (dmesg says why); it has ${driver:-no driver} again"
    fi
    if [ -n "$user" ]; then chown "$user" "/dev/vfio/$(group_of "$1")"; fi
    say "$1: ${driver:-no driver} -> vfio-pci, /dev/vfio/$(group_of "$1")"
}

take_back() {
    [ "$(driver_of "$1")" = vfio-pci ] || stop "$1: does not have vfio-pci: there is nothing to undo"
    users=$(users_of "/dev/vfio/$(group_of "$1")")
    [ -z "$users" ] || stop "$1: is in use by $users"
    driver=$(cat "$state/$1" 2>/dev/null || true)
    if [ "$dry" = yes ]; then
        say "$1: would go from vfio-pci to ${driver:-the driver that wants it}"
        return
    fi
    give "$1" '' || stop "$1: cannot be taken from vfio-pci (dmesg says why)"
    rm -f "$state/$1"
    now=$(driver_of "$1")
    [ -z "$driver" ] || [ "$now" = "$driver" ] ||
        stop "$1: had $driver, and has ${now:-no driver} now; load that module, then: echo $1 >$pci/drivers_probe"
    say "$1: vfio-pci -> ${now:-no driver}"
}

for device in $devices; do check_exists "$device"; done
check_root
if [ "$undo" = yes ]; then
    for device in $devices; do take_back "$device"; done
    exit 0
fi
for device in $devices; do
    check_group "$device"
    [ "$(driver_of "$device")" = vfio-pci ] || check_unused "$device"
done
if [ "$dry" = no ]; then vfio_load; fi
for device in $devices; do hand_over "$device"; done
