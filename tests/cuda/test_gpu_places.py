"""Several GPUs, where there are: ``pytest -m cuda``."""

from __future__ import annotations

import numpy as np
import pytest

import nnlib
from nnlib import nn
from nnlib.backend import device

STATUS = device.cuda_status()
SEVERAL = STATUS.ok and nnlib.cuda.device_count() > 1
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not STATUS.ok, reason=f"CUDA: {STATUS.reason}"),
]


@pytest.mark.skipif(STATUS.ok and not SEVERAL, reason="one GPU")
def test_a_model_trains_on_the_second_device():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).to("cuda:1")
    twin = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    twin.load_state_dict(model.cpu().state_dict())
    model.to("cuda:1")
    x = nnlib.randn(8, 3)
    for one in (model, twin):
        optimizer = nnlib.optim.Adam(one.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            one(x.to(next(one.parameters()).device)).square().mean().backward()
            optimizer.step()
    assert nnlib.cuda.current_device() == 0
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert mine.device == "cuda:1"
        np.testing.assert_allclose(mine.tolist(), other.tolist(), 1e-4, 1e-5)


@pytest.mark.skipif(STATUS.ok and not SEVERAL, reason="one GPU")
def test_copies_between_devices_wait_for_each_other():
    x = nnlib.ones(1 << 22, device="cuda:0")
    for _ in range(20):
        x = (x * 2).to("cuda:1")
        x = (x * 0.5).to("cuda:0")
    assert float(x.min()) == float(x.max()) == 1.0


def test_indices_of_numpy():
    x = nnlib.arange(6, device="cuda").reshape(2, 3)
    assert x[np.array([1])].tolist() == [[3, 4, 5]]
    assert x[:, np.array([2, 0])].tolist() == [[2, 0], [5, 3]]
