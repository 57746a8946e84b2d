# cmdline.sh: sourced; the kernel command line that every appliance starts with.
# shellcheck shell=sh

# The log goes to the first serial port, warnings and what wick says; the kernel's chatter stays in
# its buffer (LOG shows it). A panic reboots at once.
cmdline_base() {
    echo "console=ttyS0,115200 loglevel=5 panic=-1"
}
