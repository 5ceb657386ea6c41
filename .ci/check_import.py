"""Check that ``import nnlib`` is quick and brings in nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys

LIMIT_SECONDS = 0.3
HEAVY = ("numba", "cupy", "matplotlib", "torch", "scipy", "pooch", "tqdm")


def import_seconds() -> float:
    """Return what ``-X importtime`` says of nnlib in a fresh process."""
    command = [sys.executable, "-X", "importtime", "-c", "import nnlib"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # "import time:  self [us] | cumulative | imported package"
    line = re.search(r"\|\s*(\d+) \| nnlib$", done.stderr, re.MULTILINE)
    if line is None:
        raise RuntimeError(f"no line for nnlib in:\n{done.stderr}")
    return int(line[1]) / 1e6


def heavy_modules() -> list[str]:
    """Return the heavy packages that ``import nnlib`` brought in."""
    code = f"import sys, nnlib; print(*[m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def main() -> int:
    """Print the figures; return 1 if one is beyond its limit."""
    seconds = min(import_seconds() for _ in range(5))  # the first one reads the disk
    print(f"import nnlib: {seconds:.3f} s (at most {LIMIT_SECONDS})")
    heavy = heavy_modules()
    if heavy:
        print(f"import nnlib imports {', '.join(heavy)}; import them at first use")
    return int(bool(heavy) or seconds > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
