"""Grad modes: nesting, decorators, threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nnlib
from nnlib.autograd.mode import is_inference_mode_enabled


def records() -> bool:
    return (nnlib.ones(1, requires_grad=True) * 2).requires_grad


def test_nesting() -> None:
    assert records()
    with nnlib.no_grad():
        assert not records()
        with nnlib.enable_grad():
            assert records()
            with nnlib.set_grad_enabled(False):
                assert not records()
            assert records()
        assert not records()
    with nnlib.inference_mode():
        assert not records()
        assert is_inference_mode_enabled()
    assert not is_inference_mode_enabled()
    with nnlib.inference_mode(False):
        assert records()


def test_set_at_once() -> None:
    nnlib.set_grad_enabled(False)
    try:
        assert not nnlib.is_grad_enabled()
    finally:
        nnlib.set_grad_enabled(True)
    with nnlib.set_grad_enabled(False):
        assert not records()
    assert records()


def test_an_exception_restores_the_mode() -> None:
    with pytest.raises(ZeroDivisionError), nnlib.no_grad():
        raise ZeroDivisionError
    assert records()


def test_decorators() -> None:
    @nnlib.no_grad()
    def called(depth: int) -> bool:
        return records() or (depth > 0 and called(depth - 1))

    @nnlib.no_grad
    def bare() -> bool:
        return records()

    assert not called(2)
    assert not bare()
    assert records()


def test_a_new_thread_records_whatever_the_others_do() -> None:
    found = []
    with nnlib.no_grad():
        thread = threading.Thread(target=lambda: found.append(records()))
        thread.start()
        thread.join()
    assert found == [True]


def test_two_threads_run_backward_at_once() -> None:
    shared = nnlib.ones(100, requires_grad=True)
    start = threading.Barrier(4)
    results: dict[int, list[float]] = {}

    def work(number: int) -> None:
        x = nnlib.tensor(np.full(100, 1.0 + number), requires_grad=True)
        start.wait()
        values = []
        for round_ in range(30):
            with nnlib.set_grad_enabled(round_ % 3 != number % 3):
                y = (x * x * x).sum()
            if y.requires_grad:
                (dx,) = nnlib.autograd.grad(y, x, create_graph=number % 2 == 0)
                values.append(float(dx.detach().array[0]))
            (shared * 1).sum().backward()
        results[number] = values

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert results[number] == [3 * (1.0 + number) ** 2] * 20
    assert shared.grad.tolist() == [120.0] * 100


def test_threads_share_a_kept_graph() -> None:
    x = nnlib.tensor(np.arange(50.0), requires_grad=True)
    y = (x * x).exp().sum() * 0 + (x * x * x).sum()
    z = (x * x * x).sum()
    del y
    found: list[bool] = []

    def work(create_graph: bool) -> None:
        for _ in range(20):
            (dx,) = nnlib.autograd.grad(
                z, x, retain_graph=True, create_graph=create_graph
            )
            found.append(bool((dx.detach().array == 3 * np.arange(50.0) ** 2).all()))

    threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
