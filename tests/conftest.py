"""What all tests share: data on this machine, and what a test needs to run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ahead import Ahead

from nnlib.backend.device import cuda_status
from nnlib.backend.random import manual_seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and say why there is none."""
    status = cuda_status()
    if status.ok:
        return
    skip = pytest.mark.skip(reason=f"needs CUDA: {status.reason}")
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def seeds() -> None:
    """Let no test depend on what ran before it."""
    manual_seed(20240611)
    np.random.seed(20240611)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(20240611)


@pytest.fixture(scope="session", autouse=True)
def jobs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ahead]:
    """Begin what tests will wait for; see `ahead`."""
    ahead = Ahead(request.session.items, tmp_path_factory.mktemp("ahead"))
    yield ahead
    ahead.stop()


@pytest.fixture
def begun(request: pytest.FixtureRequest, jobs: Ahead) -> Any:
    """Return what the job of the test's mark `ahead` returned."""
    return jobs.result(request.node)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data sets, or skip and say how to get it."""
    named = os.environ.get("NNLIB_DATA")
    if not named or not (Path(named) / "mnist").is_dir():
        pytest.skip("needs real data sets: set NNLIB_DATA to a folder with mnist/")
    return Path(named)
