"""Compare two `.npz` files of model outputs; exit 1 when they differ by more than the tolerance.

Floating point: the largest difference over the largest magnitude of the expected array ("relative error"),
so that one element that happens to be near zero does not decide. Integers and booleans: equal. Names,
shapes and dtypes: equal. Prints one line.

Usage: python tools/compare_npz.py OURS EXPECTED [--relative 1e-4]
"""

import argparse
import sys

import numpy as np


def relative_error(ours, expected):
    """The largest difference over the largest expected magnitude; infinite where one side is not finite."""
    ours, expected = ours.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(ours), np.isfinite(expected)):
        return np.inf
    finite = np.isfinite(expected)
    if not np.array_equal(ours[~finite], expected[~finite], equal_nan=True):
        return np.inf
    difference = np.abs(ours - expected)[finite].max(initial=0.0)
    scale = np.abs(expected)[finite].max(initial=0.0)
    if difference == 0.0:
        return 0.0
    return difference / scale if scale else np.inf


def faults(ours, expected, tolerance):
    """What is wrong, and the worst relative error met with the name of its output."""
    found, worst, at = [], 0.0, "-"
    if set(ours.files) != set(expected.files):
        return [f"outputs {sorted(ours.files)}, expected {sorted(expected.files)}"], np.inf, at
    for name in expected.files:
        a, b = ours[name], expected[name]
        if a.shape != b.shape or a.dtype != b.dtype:
            found.append(f"{name}: {a.dtype}{list(a.shape)}, expected {b.dtype}{list(b.shape)}")
        elif b.dtype.kind == "f":
            error = relative_error(a, b)
            if error >= worst:
                worst, at = error, name
            if not error <= tolerance:
                found.append(f"{name}: relative error {error:.1e} above {tolerance:.0e}")
        elif not np.array_equal(a, b):
            found.append(f"{name}: {np.count_nonzero(a != b)} of {b.size} elements differ")
    return found, worst, at


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ours")
    parser.add_argument("expected")
    parser.add_argument("--relative", type=float, default=1e-4)
    arguments = parser.parse_args()
    with np.load(arguments.ours) as ours, np.load(arguments.expected) as expected:
        found, worst, at = faults(ours, expected, arguments.relative)
    print("; ".join(found) if found else f"{worst:.1e} ({at})")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
