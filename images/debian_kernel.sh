#!/bin/sh
# debian_kernel.sh [PACKAGE]: downloads the kernel package that PACKAGE (linux-image-cloud-amd64)
# depends on, unpacks it under $BUILD/image/debian without installing it or being root, and prints
# the folder: it holds boot/vmlinuz-RELEASE and lib/modules/RELEASE.
set -eu
build=${BUILD:-build}
meta=${1:-linux-image-cloud-amd64}
say() { echo "image: $*" >&2; }

# apt takes seconds to answer: it is asked again when its lists have changed.
unpacked=$build/image/debian/$meta
if [ -n "$(find "$unpacked/.complete" -newer /var/lib/apt/lists 2>/dev/null)" ]; then
    echo "$(cd "$build/image/debian" && pwd)/$(readlink "$unpacked")"
    exit 0
fi
# linux-image-cloud-amd64 names what it depends on: linux-image-6.1.0-49-cloud-amd64, say.
package=$(apt-cache depends "$meta" 2>/dev/null |
    sed -nE 's/^ *Depends: (linux-image-[0-9].*)/\1/p' | head -n 1)
if [ -z "$package" ]; then
    # Without package lists, what was unpacked before will do.
    if [ -e "$unpacked/.complete" ]; then
        echo "$(cd "$build/image/debian" && pwd)/$(readlink "$unpacked")"
        exit 0
    fi
    say "apt knows no package $meta; is this Debian, and was 'apt-get update' run?"
    exit 1
fi
mkdir -p "$build/image/debian"
place=$(cd "$build/image/debian" && pwd)
version=$(apt-cache show "$package" | sed -n 's/^Version: //p' | head -n 1)
tree=$place/${package}_$version
exec 9>"$place/lock"
flock 9 # several may want it at once
if [ ! -e "$tree/.complete" ]; then
    say "downloading $package $version"
    rm -rf "$tree" "$place/download"
    mkdir -p "$tree" "$place/download"
    (cd "$place/download" && apt-get download -q "$package" >apt.log 2>&1) || {
        sed 's/^/image: /' "$place/download/apt.log" >&2
        say "cannot download $package; if it is not found, run 'apt-get update' as root"
        exit 1
    }
    dpkg -x "$place"/download/*.deb "$tree"
    rm -rf "$place/download"
fi
touch "$tree/.complete"
ln -sfn "${tree##*/}" "$place/$meta"
echo "$tree"
