"""Check that ``import nnlib`` is quick and brings in nothing heavy."""

from __future__ import annotations

import subprocess
import sys

LIMIT_SECONDS = 0.3
HEAVY = ("numba", "cupy", "matplotlib", "torch", "scipy", "pooch", "tqdm")

# The processor's time decides, not the clock's: on a busy machine the clock measures
# the other processes.
TIMED = """
import time
clock, processor = time.perf_counter(), time.process_time()
import nnlib
print(time.perf_counter() - clock, time.process_time() - processor)
"""


def in_fresh_process(code: str) -> list[str]:
    """Run Python code and return the words that it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def main() -> int:
    """Print the figures; return 1 if one is beyond its limit."""
    runs = [tuple(map(float, in_fresh_process(TIMED))) for _ in range(5)]
    clock, processor = (min(figures) for figures in zip(*runs, strict=True))
    print(
        f"import nnlib: {processor:.3f} s of processor time (at most {LIMIT_SECONDS}), "
        f"{clock:.3f} s by the clock"
    )
    heavy = in_fresh_process(
        f"import sys, nnlib; print(*[m for m in {HEAVY} if m in sys.modules])"
    )
    if heavy:
        print(f"import nnlib imports {', '.join(heavy)}; import them at first use")
    return int(bool(heavy) or processor > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
