"""Python code in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

# An editable install finds the package by a finder of its own, before any path.
WITHOUT_EDITABLE = """
import sys
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
"""


def run_python(code, *, path=None, **environment):
    """Run `code` in a fresh process; return what it printed."""
    env = {**os.environ, **{k: str(v) for k, v in environment.items()}}
    if path is not None:
        env["PYTHONPATH"] = str(path)
        code = WITHOUT_EDITABLE + code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=path,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
