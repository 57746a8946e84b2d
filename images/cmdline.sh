# cmdline.sh: sourced; the kernel command line that every appliance starts with.
# shellcheck shell=sh

# The log goes to the first serial port: notices, which are what wick says, and worse; the kernel's
# chatter stays in its buffer, for the verb LOG. A panic reboots at once, and so does a minute without progress.
# Nobody reads an audit log here, or uses the kernel's ciphers, whose tests take Debian's a while.
cmdline_base() {
    echo "console=ttyS0,115200 loglevel=6 panic=-1 audit=0 cryptomgr.notests wick.watchdog=60"
}
