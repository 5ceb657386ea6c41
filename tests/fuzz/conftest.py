import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def family(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the random generators' draws of a family's file as they are compared."""
    import counting

    monkeypatch.setattr(
        counting, "current", request.path.stem.removeprefix("test_fuzz_")
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many configurations were compared."""
    import counting

    if counting.compared:
        parts = ", ".join(
            f"{name} {n}" for name, n in sorted(counting.compared.items())
        )
        terminalreporter.write_line(
            f"{counting.compared.total()} random configurations compared with PyTorch: "
            f"{parts}"
        )
