"""Cases of nnlib.kernels.add_rows."""

from __future__ import annotations

from kernel_cases import Case

from nnlib.kernels import add_rows


def _add(rows, columns, count, dtype):
    def run(rng, put):
        out = put(rng.standard_normal((rows, columns)).astype(dtype))
        chosen = put(rng.integers(0, rows, count))
        values = put(rng.standard_normal((count, columns)).astype(dtype))
        return add_rows.add_rows(out, chosen, values)

    return run


CASES = [
    Case("many to few", _add(4, 5, 30, "f4")),
    Case("few to many", _add(50, 3, 9, "f4")),
    Case("all to one", _add(1, 4, 20, "f8")),
]
