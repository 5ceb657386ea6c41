"""`detect_anomaly` names the operation and the user's line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nnlib
from nnlib.autograd import Function, detect_anomaly, set_detect_anomaly
from nnlib.autograd.anomaly import AnomalyError
from nnlib.autograd.mode import state


def test_forward_names_operation_element_and_line() -> None:
    x = nnlib.tensor([[1.0, 4.0], [0.0, -1.0]])
    with pytest.raises(AnomalyError) as caught, detect_anomaly():
        y = x * 2
        nnlib.log(y) * 3
    message = str(caught.value)
    assert "Log: forward made -inf at (1, 0) (2 of 4 elements)" in message
    assert "test_anomaly.py:" in message
    assert message.endswith(": nnlib.log(y) * 3")
    assert state.modes.watcher is None


def test_backward_names_the_line_of_the_forward() -> None:
    x = nnlib.tensor([0.0, 4.0], requires_grad=True)
    with detect_anomaly():
        root = x.sqrt()
        loss = (root * root).sum() + (root * 1).sum()
    with pytest.raises(AnomalyError) as caught:
        loss.backward()
    assert "Sqrt: backward made inf at (0,)" in str(caught.value)
    assert str(caught.value).endswith(": root = x.sqrt()")
    assert x.grad is None


def test_what_is_given_may_be_returned() -> None:
    with detect_anomaly():
        x = nnlib.tensor([1.0, float("nan")])
        assert np.isnan((x + 1).array[1])
        assert (nnlib.tensor([1.0]) * float("inf")).item() == float("inf")


def test_without_checks_an_exception_tells_the_line() -> None:
    class Bomb(Function):
        def forward(self, x: Any) -> Any:
            return x * float("nan")

        def backward(self, grad: Any) -> Any:
            raise ZeroDivisionError("boom")

    x = nnlib.tensor([1.0], requires_grad=True)
    with detect_anomaly(check_nan=False):
        y = Bomb.apply(x)
    with pytest.raises(ZeroDivisionError) as caught:
        y.backward()
    assert caught.value.__notes__[0].endswith(": y = Bomb.apply(x)")


def test_as_decorator_and_switch() -> None:
    @detect_anomaly()
    def run() -> None:
        nnlib.tensor([1.0]) / 0

    with pytest.raises(AnomalyError, match="Div: forward made inf"):
        run()
    set_detect_anomaly(True)
    try:
        with pytest.raises(AnomalyError):
            nnlib.tensor([0.0]) / 0
    finally:
        set_detect_anomaly(False)
    with set_detect_anomaly(True):
        pass
    assert state.modes.watcher is None
