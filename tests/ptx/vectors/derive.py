#!/usr/bin/env python3
"""Writes the test vectors (*.ptx, *.txt) beside this file, from what the PTX ISA document says of
each instruction. Nothing here was taken from the machine that is tested with them.

    derive.py            writes the files
    derive.py --check    says which files differ from what would be written
"""

import os
import sys

from float_vectors import approximate_vectors, convert_vectors, float_vectors, half_vectors
from integer_vectors import integer_vectors
from scalar_vectors import scalar_vectors
from tensor_vectors import async_vectors, matrix_vectors, mma_vectors, movmatrix_vectors
from vector import module_text
from warp_vectors import warp_vectors

MODULES = {
    "approximate": approximate_vectors,
    "async": async_vectors,
    "convert": convert_vectors,
    "float": float_vectors,
    "half": half_vectors,
    "integer": integer_vectors,
    "matrix": matrix_vectors,
    "mma": mma_vectors,
    "movmatrix": movmatrix_vectors,
    "scalar": scalar_vectors,
    "warp": warp_vectors,
}
VERSIONS = {"movmatrix": "7.8"}  # of PTX; 7.0 brought compute capability 8.0


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    different = 0
    for name, make in MODULES.items():
        for suffix, text in zip((".ptx", ".txt"), module_text(name, make(),
                                                             VERSIONS.get(name, "7.0"))):
            path = os.path.join(here, name + suffix)
            if "--check" in sys.argv:
                with open(path) as file:
                    if file.read() != text:
                        different += 1
                        print(f"{name + suffix} is not what derive.py writes")
            else:
                with open(path, "w") as file:
                    file.write(text)
    return different != 0


if __name__ == "__main__":
    sys.exit(main())
