"""The command line, and what `import nnlib` brings in."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from nnlib.backend.device import Device, cuda_status
from nnlib.cli import demo as demo_module
from nnlib.cli import main
from nnlib.cli.info import describe_device, info


def run(*arguments, folder, **environment):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "nnlib", *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_demo_on_the_cpu(tmp_path):
    done = run("demo", "--device", "cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "device: cpu, as asked" in done.stdout
    assert "CC BY 4.0" in done.stdout
    found = re.search(r"accuracy on 359 held-out images: ([\d.]+)%", done.stdout)
    assert found and float(found[1]) >= 97.0
    assert "epoch 30/30" in done.stderr
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert "matplotlib is not installed" in done.stdout
    else:
        assert "learning curves: nnlib-demo-digits.png" in done.stdout
        assert (tmp_path / "nnlib-demo-digits.png").stat().st_size > 5000


def test_demo_options(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo_module, "can_draw", lambda: False)
    figures = []
    for _ in range(2):
        assert main(["demo", "--device", "cpu", "--epochs", "2", "--seed", "5"]) == 0
        text = capsys.readouterr().out
        figures.append(re.search(r"images: ([\d.]+%) after 2 epochs", text)[1])
        assert 'matplotlib is not installed (python -m pip install "nnlib-dl' in text
    assert figures[0] == figures[1]


def test_demo_writes_where_it_is_told(tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="learning curves need matplotlib")
    path = tmp_path / "a" / "curves.svg"
    assert main(["demo", "--epochs", "1", "--output", str(path)]) == 0
    assert path.exists()
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert main(["demo", "--epochs", "1", "--output", str(blocked / "x.png")]) == 0
    assert "learning curves: not written: " in capsys.readouterr().out


def test_demo_on_mnist(tmp_path, data_root, capsys):
    assert main(["demo", "--dataset", "mnist", "--epochs", "1", "--output",
                 str(tmp_path / "x.png")]) == 0  # fmt: skip
    found = re.search(r"on 10000 held-out images: ([\d.]+)%", capsys.readouterr().out)
    assert found and float(found[1]) > 94.0


def test_demo_tells_what_went_wrong(tmp_path, capsys):
    assert main(["demo", "--device", "gpu"]) == 1
    assert "nnlib demo: device: expected 'cpu', 'cuda'" in capsys.readouterr().err
    if not cuda_status().ok:
        assert main(["demo", "--device", "cuda"]) == 1
        message = capsys.readouterr().err
        assert cuda_status().reason in message and cuda_status().mend in message
    done = run("demo", "--dataset", "mnist", folder=tmp_path, NNLIB_DATA=str(tmp_path),
               NNLIB_CACHE_DIR=str(tmp_path), HTTPS_PROXY="http://127.0.0.1:9",
               https_proxy="http://127.0.0.1:9")  # fmt: skip
    assert done.returncode == 1
    assert "nnlib demo: mnist/train-images-idx3-ubyte.gz: not found" in done.stderr
    assert "set NNLIB_DATA" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["demo", "--epochs", "0"], ["demo", "--dataset", "x"]]
)
def test_bad_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: nnlib" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert re.match(r"nnlib \d+\.\d+", capsys.readouterr().out)


def test_info():
    lines = dict(line.split(":", 1) for line in info().splitlines())
    for topic in ("nnlib", "numpy", "numba", "BLAS", "threads", "kernel cache", "CUDA"):
        assert lines[topic].strip(), topic
    assert re.search(r"\d+ of \d+ cores", lines["threads"])
    if not cuda_status().ok:
        assert cuda_status().reason in lines["CUDA"]
        assert lines["to mend it"].strip() == cuda_status().mend


def test_device_is_explained():
    assert describe_device(Device("cpu"), asked="cpu") == "cpu, as asked"
    if not cuda_status().ok:
        text = describe_device(Device("cpu"), asked="auto")
        assert cuda_status().reason in text and cuda_status().mend in text


def test_import_is_light():
    code = (
        "import sys, nnlib; "
        "print([m for m in ('numba', 'cupy', 'matplotlib', 'torch', 'scipy', 'pooch',"
        " 'tqdm') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
