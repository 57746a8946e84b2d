#!/bin/sh
# kernel.sh: compiles the appliance's own kernel from Debian's linux-source-6.1 with kernel.config,
# without being root. What was compiled before from the same configuration and source is kept.
#   $BUILD/image/own/kernel   vmlinuz, config, and modules/RELEASE (empty: all is built in)
#   $BUILD/image/own/source   the unpacked source, for modules that are compiled against it
#   JOBS                      compilers at the same time (as many as there are processors)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-build}
jobs=${JOBS:-$(nproc)}
config=$here/kernel.config
package=linux-source-6.1
say() { echo "kernel: $*" >&2; }
stop() {
    say "$*"
    exit 1
}

version=$(apt-cache show "$package" 2>/dev/null | sed -n 's/^Version: //p' | head -n 1)
mkdir -p "$build/image/own"
place=$(cd "$build/image/own" && pwd)
if [ -z "$version" ]; then
    # Without package lists, the source that is here will do.
    version=$(cat "$place/source.version" 2>/dev/null) ||
        stop "apt knows no package $package; is this Debian 12, and was 'apt-get update' run?"
fi
# Comments do not count.
hash=$({ echo "$version"; sed -E 's/#.*//; /^$/d' "$config"; } | sha256sum | cut -c 1-16)
done_in=$place/kernel-$hash

tell() {
    release=$(basename "$done_in"/modules/*)
    printf '%s  %9d bytes  %s\n' "kernel   " "$(stat -c %s "$done_in/vmlinuz")" \
        "$place/kernel/vmlinuz ($release, $package $version)"
}
if [ -f "$done_in/vmlinuz" ]; then
    ln -sfn "${done_in##*/}" "$place/kernel"
    tell
    exit 0
fi

# --- source ------------------------------------------------------------------------------------

if [ "$(cat "$place/source.version" 2>/dev/null)" != "$version" ]; then
    say "downloading $package $version (140 MB; 1.5 GB unpacked)"
    rm -rf "$place/source" "$place/source.version" "$place/download"
    mkdir -p "$place/source" "$place/download"
    (cd "$place/download" && apt-get download -q "$package" >apt.log 2>&1) || {
        sed 's/^/kernel: /' "$place/download/apt.log" >&2
        stop "cannot download $package; if it is not found, run 'apt-get update' as root"
    }
    dpkg-deb --fsys-tarfile "$place"/download/*.deb |
        tar -xO "./usr/src/$package.tar.xz" | tar -xJ -C "$place/source" --strip-components=1
    rm -rf "$place/download"
    echo "$version" >"$place/source.version"
fi
cd "$place/source"

# --- configuration: everything off, then ours, then what that needs -----------------------------

make -s tinyconfig >/dev/null 2>&1
cat "$config" >>.config
make -s olddefconfig >"$place/config.log" 2>&1
sed -nE 's/^(CONFIG_[A-Z0-9_]+)=(.*)$/\1 \2/p' "$config" >"$place/wanted"
bad=
while read -r option value; do
    if [ "$value" = n ]; then
        if grep -q "^$option=" .config; then bad="$bad $option=n"; fi
    elif ! grep -qFx "$option=$value" .config; then
        bad="$bad $option=$value"
    fi
done <"$place/wanted"
rm -f "$place/wanted"
[ -z "$bad" ] || stop "kernel.config: these did not take (a dependency is missing, or they are gone):$bad"
! grep -q '=m$' .config || stop "kernel.config: these are modules: $(grep '=m$' .config | tr '\n' ' ')"

# --- compile -----------------------------------------------------------------------------------

# Fixed names and time: the same source and compiler give the same bytes.
export KBUILD_BUILD_USER=wick KBUILD_BUILD_HOST=wick KBUILD_BUILD_TIMESTAMP='1970-01-01'
log=$place/build.log
steps=2020 # lines that a build from nothing prints
began=$(date +%s)
say "compiling with $jobs jobs; log: $log"
make -j"$jobs" bzImage >"$log" 2>&1 &
maker=$!
trap 'kill $maker 2>/dev/null || true' INT TERM
shown=0
while kill -0 "$maker" 2>/dev/null; do
    sleep 2
    percent=$(($(wc -l <"$log") * 100 / steps))
    [ "$percent" -le 99 ] || percent=99
    seconds=$(($(date +%s) - began))
    if [ -t 2 ]; then
        printf '\rkernel: %2d %%  %d:%02d ' "$percent" $((seconds / 60)) $((seconds % 60)) >&2
    elif [ "$percent" -ge $((shown + 10)) ]; then
        shown=$percent
        say "$percent %, $((seconds / 60)):$(printf %02d $((seconds % 60)))"
    fi
done
if [ -t 2 ]; then printf '\r' >&2; fi
wait "$maker" || {
    tail -n 20 "$log" >&2
    stop "the compilation failed; all of it: $log"
}

rm -rf "$done_in.new"
mkdir -p "$done_in.new/modules/$(make -s kernelrelease)"
cp arch/x86/boot/bzImage "$done_in.new/vmlinuz"
cp .config "$done_in.new/config"
mv "$done_in.new" "$done_in"
ln -sfn "${done_in##*/}" "$place/kernel"
tell
