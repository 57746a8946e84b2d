"""Where a GPU's driver lies, and what of it a running wick has opened."""

import os
import re

# As src/cuda/libraries.c looks for it.
PLACES = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib",
          "/run/opengl-driver/lib", "/gpu"]
NODES = ["/dev/nvidiactl", "/dev/dxg"]
NAME = "libcuda.so.1"


def find():
    """(path of libcuda, None), or (None, why there is none). WICK_LIBCUDA names one: no device is
    looked for then."""
    given = os.environ.get("WICK_LIBCUDA")
    if given:
        path = os.path.abspath(given)
        if os.path.basename(path) == NAME and os.path.exists(path):
            return path, None
        return None, f"WICK_LIBCUDA={given} is no file {NAME}"
    paths = [os.path.join(place, NAME) for place in PLACES]
    path = next((p for p in paths if os.path.exists(p)), None)
    if path is None:
        return None, f"no {NAME} in {' '.join(PLACES)}; WICK_LIBCUDA=FILE names one"
    if not any(os.path.exists(node) for node in NODES):
        return None, f"{path} is there, and no device: {' '.join(NODES)}"
    return path, None


def mapped(pid):
    """The files that a process has mapped with code in them."""
    with open(f"/proc/{pid}/maps") as f:
        lines = [line.split(None, 5) for line in f]
    return sorted({x[5].strip() for x in lines if len(x) == 6 and x[5].startswith("/")
                   and re.search(r"\.so(\.|$)", x[5])})


def traced(path):
    """What strace saw opened: (libraries, other files, devices, sought in vain)."""
    libraries, others, devices, vain = set(), set(), set(), set()
    with open(path, errors="replace") as f:
        for line in f:
            found = re.search(r'open(?:at)?\((?:AT_FDCWD, )?"([^"]+)".*\) = (-?\d+)', line)
            if not found:
                continue
            name, result = found[1], int(found[2])
            if result < 0:
                vain.add(name)
            elif name.startswith("/dev/"):
                devices.add(name)
            elif re.search(r"\.so(\.|$)", name):
                libraries.add(name)
            else:
                others.add(re.sub(r"/(task/)?\d+\b", "/N", name))
    # What was found in the end is looked for in many places before.
    found = {os.path.basename(x) for x in libraries}
    vain = {x for x in vain if os.path.basename(x) not in found}
    return tuple(sorted(x) for x in (libraries, others, devices, vain))


def image_names(root):
    """The libraries that images/nvidia.list puts into an image, as patterns."""
    names = []
    with open(os.path.join(root, "images", "nvidia.list")) as f:
        for line in f:
            words = line.split("#")[0].split()
            if words and words[0] in ("library", "glibc"):
                names.append(words[1].lstrip("?"))
    return names


def is_in_image(path, names):
    base = os.path.basename(path)
    return any(base == n or base.startswith(n.split(".so")[0] + ".so") for n in names)
