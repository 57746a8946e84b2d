#!/bin/sh
# qemu.sh: runs the appliance in a virtual machine. `qemu.sh --help` has the options.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-build}

help() {
    cat <<END
usage: images/qemu.sh [--image | --disk] [option ...] [-- QEMU option ...]

what to run
  --image             kernel and initramfs, the model on a second disk (default)
  --disk              a whole disk through UEFI (OVMF)
  --kernel KIND       which image: debian (default), own, host-nvidia ...
  --vmlinuz FILE      kernel and initramfs by their names
  --initramfs FILE
  --disk-image FILE   disk by its name
  --bus BUS           what disks hang on: virtio (default), nvme, usb
  --model FILE        model of --image [images/tales-4m-Q8_0.gguf]; none: no disk
  --drive FILE        one more disk, before the model's; repeatable
  --append WORDS      more of the kernel command line, wick.key=value ...; repeatable.
                      wick.listen= takes the place of the wires below, wick.ip= of the address

the machine
  --accel A           auto (KVM if it really works), kvm, tcg
  --cpu CPU           processor [KVM: host; TCG: qemu64, whose instructions TCG runs fast]
  --cpus N            processors [as many as there are, at most 4]
  --memory SIZE       memory in MiB [192 + three times the model]
  --gpu PCI           pass this device through, 0000:01:00.0; repeatable (images/passthrough.sh)
  --firmware FW       seabios or ovmf [--disk: ovmf; else seabios]

wires
  --wire CHARDEV      hvc0, the protocol [stdio: Ctrl-A X ends the machine]
  --log CHARDEV       ttyS0, the log [file, \$BUILD/image/console.log]
  --serial CHARDEV    ttyS1, a second wire for the protocol [none]
  --port PORT         127.0.0.1:PORT of this machine is port 7411 of the appliance [7411]; 0: none
                      (a disk listens to TCP if its own command line says so: make disk APPEND=)
  --key FILE          what clients log in with over TCP [\$BUILD/qemu.key, made if it is not there];
                      a disk has its own: make disk KEY=
  --monitor CHARDEV   QEMU's monitor (QMP) [none]
  CHARDEV is stdio, null, file:PATH, unix:PATH (QEMU listens) or tcp:PORT (on 127.0.0.1).

otherwise
  --reboot            let the machine start again after a reset; without it, QEMU ends
  --probe             only say whether KVM works here
  --dry-run           print the command, do not run it
  --help              this text

QEMU ends with status 0 when the machine powers off or resets, 1 when its kernel panics.
END
}

say() { echo "qemu: $*" >&2; }
stop() {
    say "$*"
    exit 2
}

# --- KVM, if it works --------------------------------------------------------------------------

# A boot sector that writes 16 to isa-debug-exit, which ends QEMU with status 16 * 2 + 1:
# mov al, 16; out 0xf4, al; hlt; jmp $.
probe_sector() {
    printf '\260\020\346\364\364\353\376'
    dd if=/dev/zero bs=503 count=1 2>/dev/null
    printf '\125\252'
}

# A device node is no proof: on some machines a guest starts and then creeps. So a processor that
# says it can, and a boot that ends within a few seconds. What is wrong stands in $kvm_reason.
kvm_works() {
    kvm_reason="the processor offers neither vmx nor svm"
    grep -qwE 'vmx|svm' /proc/cpuinfo || return 1
    kvm_reason="/dev/kvm cannot be opened"
    [ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
    kvm_reason="a boot sector did not run within 5 s"
    probe=$(mktemp)
    probe_sector >"$probe"
    status=0
    timeout 5 qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 16 -nodefaults -display none \
        -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=1 \
        -drive file="$probe",format=raw,if=virtio,readonly=on >/dev/null 2>&1 || status=$?
    rm -f "$probe"
    [ "$status" -eq 33 ] && kvm_reason=
    [ "$status" -eq 33 ]
}

# --- options -----------------------------------------------------------------------------------

mode=image kind=debian bus=virtio model=$here/tales-4m-Q8_0.gguf accel=auto cpu='' cpus='' memory=''
vmlinuz='' initramfs='' disk='' firmware='' wire=stdio log=file:$build/image/console.log serial=''
port=7411 monitor='' reboot=no dry=no append='' drives='' gpus='' key=''

while [ $# -gt 0 ]; do
    case $1 in
    --image | --disk) mode=${1#--} ;;
    --reboot) reboot=yes ;;
    --dry-run) dry=yes ;;
    --probe)
        if kvm_works; then say "KVM works"; else say "no KVM: $kvm_reason"; fi
        exit 0
        ;;
    --help | -h)
        help
        exit 0
        ;;
    --)
        shift
        break
        ;;
    --*)
        [ $# -ge 2 ] || stop "$1 needs a value; see --help"
        case $1 in
        --kernel) kind=$2 ;;
        --vmlinuz) vmlinuz=$2 ;;
        --initramfs) initramfs=$2 ;;
        --disk-image) disk=$2 ;;
        --bus) bus=$2 ;;
        --model) model=$2 ;;
        --drive) drives="$drives $2" ;;
        --append) append="$append $2" ;;
        --accel) accel=$2 ;;
        --cpu) cpu=$2 ;;
        --cpus) cpus=$2 ;;
        --memory) memory=$2 ;;
        --gpu) gpus="$gpus $2" ;;
        --firmware) firmware=$2 ;;
        --wire) wire=$2 ;;
        --log) log=$2 ;;
        --serial) serial=$2 ;;
        --port) port=$2 ;;
        --key) key=$2 ;;
        --monitor) monitor=$2 ;;
        *) stop "unknown option $1; see --help" ;;
        esac
        shift
        ;;
    *) stop "'$1' is no option; see --help" ;;
    esac
    shift
done

# From here on "$@" is the command: first what the caller adds, in the end all of it.
vmlinuz=${vmlinuz:-$build/image/$kind/vmlinuz}
initramfs=${initramfs:-$build/image/$kind/initramfs}
disk=${disk:-$build/image/$kind/disk.img}

readable() { [ -r "$1" ] || stop "cannot read $1${2:+: $2}"; }

# chardev ID WHAT [OPTIONS]: QEMU's way of saying it.
chardev() {
    case $2 in
    stdio) echo "stdio,id=$1,mux=on,signal=on" ;;
    null) echo "null,id=$1" ;;
    file:*) echo "file,id=$1,path=${2#file:}" ;;
    unix:*) echo "socket,id=$1,path=${2#unix:},server=on,wait=off" ;;
    tcp:*) echo "socket,id=$1,host=127.0.0.1,port=${2#tcp:},server=on,wait=off" ;;
    *) stop "'$2' is no chardev: want stdio, null, file:PATH, unix:PATH or tcp:PORT" ;;
    esac
}

# --- the machine -------------------------------------------------------------------------------

case $accel in
auto)
    accel=tcg
    if kvm_works || { [ "$dry" = yes ] && [ -n "$gpus" ]; }; then accel=kvm; fi
    ;;
kvm | tcg) kvm_reason="--accel $accel" ;;
*) stop "--accel $accel: want auto, kvm or tcg" ;;
esac
[ -z "$gpus" ] || [ "$accel" = kvm ] || stop "--gpu needs KVM: $kvm_reason"

if [ -z "$cpu" ]; then
    cpu=qemu64
    if [ "$accel" = kvm ]; then cpu=host; fi
fi
if [ -z "$cpus" ]; then
    cpus=$(nproc)
    [ "$cpus" -le 4 ] || cpus=4
fi
if [ -z "$memory" ]; then
    bytes=0
    # Mapped once and packed once; with its KV cache, no more than three times.
    weighed=$model
    if [ "$mode" = disk ]; then weighed=$disk; fi
    if [ -r "$weighed" ]; then bytes=$(stat -L -c %s "$weighed"); fi
    memory=$((192 + 3 * bytes / 1048576))
fi
if [ -z "$firmware" ]; then
    firmware=seabios
    if [ "$mode" = disk ]; then firmware=ovmf; fi
fi

# No default devices; no controllers that nothing hangs on (an empty SATA port takes 0.3 s to say so).
set -- -M q35,sata=off,smbus=off,vmport=off -accel "$accel" -cpu "$cpu" -smp "$cpus" -m "$memory" \
    -nodefaults -no-user-config -display none "$@"
# A panic is told from a power-off by QEMU's status; a hang of the main loop ends in a reset.
set -- "$@" -device pvpanic-pci -device i6300esb \
    -action panic=exit-failure -action watchdog=reset
if [ "$reboot" = no ]; then set -- "$@" -no-reboot; fi
set -- "$@" -device virtio-rng-pci

case $firmware in
seabios) ;;
ovmf)
    code=/usr/share/OVMF/OVMF_CODE_4M.fd
    readable "$code" "install the package ovmf"
    set -- "$@" -drive "if=pflash,unit=0,format=raw,readonly=on,file=$code" \
        -drive "if=pflash,unit=1,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd"
    ;;
*) stop "--firmware $firmware: want seabios or ovmf" ;;
esac

# --- wires -------------------------------------------------------------------------------------

set -- "$@" -chardev "$(chardev wire "$wire")" -chardev "$(chardev log "$log")" \
    -device virtio-serial-pci -device virtconsole,chardev=wire -serial chardev:log
if [ -n "$serial" ]; then
    set -- "$@" -chardev "$(chardev serial "$serial")" -serial chardev:serial
fi
if [ -n "$monitor" ]; then
    set -- "$@" -chardev "$(chardev monitor "$monitor")" -mon chardev=monitor,mode=control
fi
# Behind QEMU's own router: the guest is 10.0.2.15, and nobody but this machine reaches it.
forward=
if [ "$port" != 0 ]; then forward=",hostfwd=tcp:127.0.0.1:$port-10.0.2.15:7411"; fi
set -- "$@" -netdev "user,id=net$forward" -device virtio-net-pci,netdev=net,romfile=

# --- disks -------------------------------------------------------------------------------------

n_disks=0
add_disk() {
    drive="if=none,id=disk$n_disks,format=raw,readonly=on,file=$1"
    case $bus in
    virtio) device=virtio-blk-pci,drive=disk$n_disks ;;
    nvme) device=nvme,serial=wick$n_disks,drive=disk$n_disks ;;
    usb) device=usb-storage,drive=disk$n_disks ;;
    *) stop "--bus $bus: want virtio, nvme or usb" ;;
    esac
}
if [ "$bus" = usb ]; then set -- "$@" -device qemu-xhci; fi
# shellcheck disable=SC2086
for file in $drives; do
    readable "$file"
    add_disk "$file"
    set -- "$@" -drive "$drive" -device "$device"
    n_disks=$((n_disks + 1))
done

# The key stands on the guest's command line: good enough for a guest of this machine. A real one has
# it in a file of its image (make image KEY=).
key_words() {
    if [ -z "$key" ]; then
        key=$build/qemu.key
        [ -f "$key" ] || (umask 077 && mkdir -p "$build" &&
            od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$key")
        say "TCP asks for a login: wickctl --key $key -c tcp:127.0.0.1:$port"
    fi
    readable "$key"
    printf ' wick.key=%s' "$(tr -d ' \r\n' <"$key")"
}

case $mode in
image)
    readable "$vmlinuz" "run 'make image'"
    readable "$initramfs" "run 'make image'"
    if [ "$model" != none ]; then
        readable "$model"
        add_disk "$model"
        set -- "$@" -drive "$drive" -device "$device"
    fi
    # shellcheck source=images/cmdline.sh
    . "$here/cmdline.sh"
    line=$(cmdline_base)
    case $append in
    *wick.ip=*) ;;
    *) line="$line wick.ip=10.0.2.15/24,gw=10.0.2.2" ;;
    esac
    case $append in
    *wick.listen=*) ;;
    *)
        line="$line wick.listen=tty:/dev/hvc0"
        if [ -n "$serial" ]; then line="$line wick.listen=tty:/dev/ttyS1,115200"; fi
        if [ "$port" != 0 ]; then line="$line wick.listen=tcp:10.0.2.15:7411"; fi
        ;;
    esac
    case $append in
    *wick.key=*) ;;
    *) if [ "$port" != 0 ]; then line="$line$(key_words)"; fi ;;
    esac
    # The emulated timer works: no need to try it. An emulated processor does not speculate: nothing to
    # hide from it. (TCG's time-stamp counter is the host's own, so its rate is for the kernel to
    # measure.)
    if [ "$accel" = tcg ]; then line="$line no_timer_check nokaslr mitigations=off"; fi
    set -- "$@" -kernel "$vmlinuz" -initrd "$initramfs" -append "$line$append"
    ;;
disk)
    readable "$disk" "run 'make disk'"
    [ -z "$append" ] || stop "--append: the command line of a disk is in it; see make disk APPEND="
    add_disk "$disk"
    set -- "$@" -drive "$drive" -device "$device,bootindex=0"
    ;;
esac

# --- GPU ---------------------------------------------------------------------------------------

# The guest's memory is locked for the device's DMA, and its large BARs need room above 4 GiB:
# SeaBIOS finds that by itself, OVMF is told how much (512 GiB).
n_gpus=0
for gpu in $gpus; do
    case $gpu in
    ????:??:??.?) ;;
    ??:??.?) gpu=0000:$gpu ;;
    *) stop "--gpu $gpu: want a PCI address as lspci -D shows it, 0000:01:00.0" ;;
    esac
    if [ "$dry" = no ]; then
        driver=$(readlink -f "/sys/bus/pci/devices/$gpu/driver" 2>/dev/null || true)
        [ "${driver##*/}" = vfio-pci ] ||
            stop "$gpu is not bound to vfio-pci; as root: images/passthrough.sh $gpu"
    fi
    set -- "$@" -device "pcie-root-port,id=port$n_gpus,chassis=$((n_gpus + 1))" \
        -device "vfio-pci,host=$gpu,bus=port$n_gpus,rombar=0"
    n_gpus=$((n_gpus + 1))
done
if [ "$n_gpus" -gt 0 ]; then
    if [ "$firmware" = ovmf ]; then
        set -- "$@" -fw_cfg name=opt/ovmf/X-PciMmio64Mb,string=524288
    fi
    if [ "$dry" = no ]; then
        # shellcheck disable=SC3045
        ulimit -l unlimited 2>/dev/null ||
            stop "the guest's memory cannot be locked: raise 'ulimit -l' to unlimited, or run as root"
    fi
fi

# --- run ---------------------------------------------------------------------------------------

set -- qemu-system-x86_64 "$@"
if [ "$dry" = yes ]; then
    for word in "$@"; do
        case $word in
        *[!A-Za-z0-9_./:,=@%+-]* | '') printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")" ;;
        *) printf '%s ' "$word" ;;
        esac
    done
    echo
    exit 0
fi
if [ "$wire" != stdio ] || [ ! -t 0 ]; then exec "$@"; fi

# A person: QEMU takes the terminal raw, but a wire of lines wants echo, editing, and Enter that ends
# a line. So this is set again once QEMU has it; Ctrl-A and x end a piece of input too, so that QEMU
# sees its Ctrl-A X at once.
terminal=$(stty -g)
trap 'stty "$terminal"' EXIT
(
    tries=0
    until stty -a | grep -q -- '-icanon'; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || exit 0
        sleep 0.1
    done
    stty icanon iexten echo echoe echok icrnl eol '^A' eol2 x
) </dev/tty &
status=0
"$@" || status=$?
exit "$status"
