"""Cases of nnlib.kernels.optimizer: two steps of every rule."""

from __future__ import annotations

import numpy as np
from kernel_cases import Case

from nnlib.kernels import optimizer


def _rule(name, slots, dtype="f4", counts=True, **options):
    def run(rng, put):
        shapes = [(3, 4), (5,)]
        params = [put(rng.standard_normal(s).astype(dtype)) for s in shapes]
        kept = [[put(0 * p) for p in params] for _ in range(slots)]
        table = optimizer.ParameterTable(params, kept)
        for step in (1, 2):
            table.set_gradients(
                [put(rng.standard_normal(s).astype(dtype)) for s in shapes]
            )
            rule = getattr(optimizer, name)
            rule(
                table, *([step] if counts else []), lr=0.1, weight_decay=0.1, **options
            )
        return [*params, *(array for slot in kept for array in slot)]

    return run


def _rprop(rng, put):
    p, before = (put(rng.standard_normal(13).astype("f4")) for _ in range(2))
    step = put(np.full(13, 0.1, "f4"))
    table = optimizer.ParameterTable([p], [[before], [step]])
    for _ in range(2):
        table.set_gradients([put(rng.standard_normal(13).astype("f4"))])
        optimizer.rprop(table)
    return [p, before, step]


def _views(rng, put):
    """Two steps on views that begin anywhere, of more elements than a block takes."""
    found = []
    for place in (0, 1):
        whole = [put(rng.standard_normal(n + 3).astype("f4")) for n in (1, 6, 1031)]
        params = [w[place : w.size - 3 + place] for w in whole]
        kept = [[put(np.zeros(p.shape, "f4")) for p in params] for _ in range(2)]
        table = optimizer.ParameterTable(params, kept)
        for step in (1, 2):
            gradients = [put(rng.standard_normal(p.size).astype("f4")) for p in params]
            table.set_gradients(gradients)
            optimizer.adam(table, step, lr=0.1)
        found += whole + kept[0] + kept[1]
    return found


def _recorded(rng, put):
    """Two steps whose settings the kernel reads from memory, as in a CUDA graph."""
    p = put(rng.standard_normal(13).astype("f4"))
    kept = [put(np.zeros(13, "f4")) for _ in range(2)]
    table = optimizer.ParameterTable([p], [[x] for x in kept])
    for step in (1, 2):
        table.set_gradients([put(rng.standard_normal(13).astype("f4"))])
        if table.cuda:
            table.settings, table.launches = put(np.zeros(12, "f4")), False
            optimizer.adam(table, step, lr=0.1)
            # The numbers of the launch itself do not count.
            table.launches = True
            optimizer.adam(table, 5, lr=0.7)
        else:
            optimizer.adam(table, step, lr=0.1)
    return [p, *kept]


CASES = [
    Case("adam, while a graph is recorded", _recorded),
    Case("adam, views", _views),
    Case("sgd", _rule("sgd", 0, counts=False, l1=0.1)),
    Case("momentum", _rule("sgd", 1, counts=False, momentum=0.9, nesterov=True)),
    Case("adam", _rule("adam", 2)),
    Case("adam, float64", _rule("adam", 2, "f8", decoupled=True)),
    Case("amsgrad", _rule("adam", 3)),
    Case("nadam", _rule("nadam", 2, mu_product=1.0)),
    Case("radam", _rule("radam", 2)),
    Case("adamax", _rule("adamax", 2)),
    Case("adagrad", _rule("adagrad", 1)),
    Case("adadelta", _rule("adadelta", 2, counts=False)),
    Case("rmsprop", _rule("rmsprop", 1, counts=False)),
    Case("rprop", _rprop),
    Case("asgd", _rule("asgd", 1, eta=0.1, mu=0.5)),
    Case("rmsprop, momentum", _rule("rmsprop", 2, counts=False, momentum=0.9)),
    Case("rmsprop, centred", _rule("rmsprop", 2, counts=False, centered=True)),
    Case(
        "rmsprop, centred, momentum",
        _rule("rmsprop", 3, counts=False, centered=True, momentum=0.9),
    ),
]
