"""Fused updates against torch.optim over 20 steps, and what a table refuses."""

from __future__ import annotations

import numpy as np
import pytest

from nnlib.backend.errors import DTypeError, ShapeError
from nnlib.kernels import optimizer
from nnlib.kernels.optimizer import ParameterTable

STEPS = 20
# Both sides of the limit below which one thread does everything.
SHAPES = [[(3, 4), (), (7,), (0, 2)], [(200, 200), (9,)]]


class Runner:
    """Counts the steps and keeps what a rule keeps between them."""

    def __init__(self, name, options, slots):
        self.rule = getattr(optimizer, name)
        self.name, self.options, self.slots = name, dict(options), slots
        self.step, self.product = 0, 1.0

    def __call__(self, table):
        self.step += 1
        if self.name == "sgd":
            self.rule(table, first=self.step == 1, **self.options)
        elif self.name == "nadam":
            self.product = self.rule(
                table, self.step, mu_product=self.product, **self.options
            )
        elif self.name in ("adadelta", "rmsprop"):
            self.rule(table, **self.options)
        else:
            self.rule(table, self.step, **self.options)


RULES = [
    ("sgd", "SGD", dict(lr=0.1), 0),
    ("sgd", "SGD", dict(lr=0.1, weight_decay=0.01, maximize=True), 0),
    ("sgd", "SGD", dict(lr=0.1, momentum=0.9), 1),
    ("sgd", "SGD", dict(lr=0.1, momentum=0.9, dampening=0.3, weight_decay=0.1), 1),
    ("sgd", "SGD", dict(lr=0.1, momentum=0.9, nesterov=True), 1),
    ("adam", "Adam", dict(lr=0.01), 2),
    ("adam", "Adam", dict(lr=0.01, betas=(0.5, 0.9), weight_decay=0.1), 2),
    ("adam", "Adam", dict(lr=0.01, amsgrad=True, maximize=True, eps=1e-3), 3),
    ("adam", "AdamW", dict(lr=0.01, weight_decay=0.1), 2),
    ("adam", "AdamW", dict(lr=0.01, weight_decay=0.1, amsgrad=True), 3),
    ("adagrad", "Adagrad", dict(lr=0.1, lr_decay=0.1, weight_decay=0.1), 1),
    ("adadelta", "Adadelta", dict(lr=1.0, rho=0.8, weight_decay=0.1), 2),
    ("rmsprop", "RMSprop", dict(lr=0.01), 1),
    ("rmsprop", "RMSprop", dict(lr=0.01, momentum=0.9, weight_decay=0.1), 2),
    ("rmsprop", "RMSprop", dict(lr=0.01, centered=True, maximize=True), 2),
    ("rmsprop", "RMSprop", dict(lr=0.01, centered=True, momentum=0.5), 3),
    ("adamax", "Adamax", dict(lr=0.01, weight_decay=0.1), 2),
    ("nadam", "NAdam", dict(lr=0.01, weight_decay=0.1), 2),
    ("nadam", "NAdam", dict(lr=0.01, weight_decay=0.1, decoupled=True), 2),
    ("radam", "RAdam", dict(lr=0.01, weight_decay=0.1), 2),
    ("radam", "RAdam", dict(lr=0.01, weight_decay=0.1, decoupled=True), 2),
]


def _peer_options(options):
    given = dict(options)
    if "decoupled" in given:
        given["decoupled_weight_decay"] = given.pop("decoupled")
    return given


@pytest.mark.parametrize(
    "shapes,dtype",
    [(SHAPES[0], "float64"), (SHAPES[1], "float32")],
    ids=["alone", "pool"],
)
@pytest.mark.parametrize(
    "name,peer,options,slots", RULES, ids=lambda v: v if isinstance(v, str) else ""
)
def test_against_pytorch(rng, name, peer, options, slots, shapes, dtype):
    torch = pytest.importorskip("torch")
    start = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    params = [np.array(p) for p in start]
    kept = [[np.zeros_like(p) for p in params] for _ in range(slots)]
    theirs = [torch.nn.Parameter(torch.tensor(p)) for p in start]
    other = getattr(torch.optim, peer)(theirs, **_peer_options(options))
    ours = {k: v for k, v in options.items() if k != "amsgrad"}
    if peer == "AdamW":
        ours["decoupled"] = True
    run = Runner(name, ours, slots)
    table = ParameterTable(params, kept)
    for _ in range(STEPS):
        grads = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
        for p, g in zip(theirs, grads, strict=True):
            p.grad = torch.tensor(g)
        other.step()
        table.set_gradients(grads)
        run(table)
    rtol, atol = (1e-10, 1e-12) if dtype == "float64" else (1e-4, 2e-5)
    if name == "nadam":
        # PyTorch keeps the product of the momentum factors in float32.
        rtol = max(rtol, 1e-6)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=rtol, atol=atol)


def test_without_bias_correction(rng):
    p = rng.standard_normal(5)
    expected, m, v = p.copy(), 0.0, 0.0
    table = ParameterTable([p], [[np.zeros(5)], [np.zeros(5)]])
    for step in range(1, 5):
        g = rng.standard_normal(5)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        expected -= 0.01 * m / (np.sqrt(v) + 1e-8)
        table.set_gradients([g])
        optimizer.adam(table, step, lr=0.01, bias_correction=False)
    np.testing.assert_allclose(p, expected, rtol=1e-12)


def test_l1_penalty():
    p = np.array([2.0, 0.0, -3.0])
    table = ParameterTable([p])
    table.set_gradients([np.zeros(3)])
    optimizer.sgd(table, lr=0.5, l1=0.2)
    np.testing.assert_allclose(p, [1.9, 0.0, -2.9])


def test_layouts(rng):
    p = np.asfortranarray(rng.standard_normal((4, 6)))
    g = rng.standard_normal((4, 6))
    expected = p - 0.1 * g
    table = ParameterTable([p])
    table.set_gradients([g])
    optimizer.sgd(table, lr=0.1)
    np.testing.assert_allclose(p, expected, rtol=1e-14)


def test_gradients_of_any_object_are_found(rng):
    params = [rng.standard_normal((2, 3)).astype("f4") for _ in range(4)]
    grads = [rng.standard_normal((2, 3)).astype("f4") for _ in range(3)]
    grads.append(np.broadcast_to(np.float32(1), (2, 3)))
    expected = [p - g for p, g in zip(params, grads, strict=True)]
    table = ParameterTable(params)
    table.set_gradients(grads)
    optimizer.sgd(table, lr=1.0)
    for p, e in zip(params, expected, strict=True):
        np.testing.assert_allclose(p, e, rtol=1e-6)


def test_non_finite(rng):
    p = np.array([1.0, np.inf, 1.0], "f4")
    table = ParameterTable([p], [[np.zeros(3, "f4")] for _ in range(2)])
    table.set_gradients([np.array([np.nan, 1.0, np.inf], "f4")])
    optimizer.adam(table, 1, lr=0.1)
    assert np.isnan(p[0]) and p[1] == np.inf and np.isnan(p[2])


def test_independent_of_threads(rng):
    from nnlib.backend import threads

    before = threads.get_num_threads()
    results = []
    start = rng.standard_normal((100, 401)).astype("f4")
    g = rng.standard_normal((100, 401)).astype("f4")
    try:
        for count in (1, before):
            threads.set_num_threads(count)
            p = start.copy()
            table = ParameterTable([p], [[np.zeros_like(p)], [np.zeros_like(p)]])
            table.set_gradients([g])
            optimizer.adam(table, 1, lr=0.1)
            results.append(p)
    finally:
        threads.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_refused():
    p = np.ones((2, 2), "f4")
    with pytest.raises(ShapeError, match="at least one parameter"):
        ParameterTable([])
    with pytest.raises(DTypeError, match="expected float32 or float64, got int64"):
        ParameterTable([np.ones(3, int)])
    with pytest.raises(ShapeError, match="slot 0 of parameter 0 has shape"):
        ParameterTable([p], [[np.ones(4, "f4")]])
    with pytest.raises(DTypeError, match="slot 0 of parameter 0 is float64"):
        ParameterTable([p], [[np.ones((2, 2))]])
    with pytest.raises(ShapeError, match="a view with gaps"):
        ParameterTable([np.ones((4, 4))[:, ::2]])
    table = ParameterTable([p])
    with pytest.raises(ShapeError, match="gradients are not set"):
        optimizer.sgd(table, lr=0.1)
    with pytest.raises(ShapeError, match="gradient 0 has shape"):
        table.set_gradients([np.ones(4, "f4")])
    with pytest.raises(DTypeError, match="gradient 0 is float64"):
        table.set_gradients([np.ones((2, 2))])
    with pytest.raises(ShapeError, match="2 gradients for 1"):
        table.set_gradients([p, p])
    table.set_gradients([p.copy()])
    with pytest.raises(ShapeError, match="0 kept arrays"):
        optimizer.adagrad(table, 1, lr=0.1)
    with pytest.raises(ShapeError, match="expected 1 or 2"):
        optimizer.rmsprop(table, lr=0.1)
