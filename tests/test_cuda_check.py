"""`nnlib.bench.cuda_check` as far as it goes without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from nnlib.backend.device import cuda_status
from nnlib.bench import convolution_ways, cuda_check, cuda_figures
from nnlib.bench.cuda_tests import run_tests
from nnlib.bench.outcomes import read_outcomes
from nnlib.bench.report import Report, read_report


def test_without_a_gpu_it_says_why_and_how_to_mend_it(tmp_path, capsys):
    status = cuda_status()
    if status.ok:
        pytest.skip("there is a CUDA device")
    assert cuda_check.main(["--output", str(tmp_path)]) == 2
    text = capsys.readouterr().out
    assert status.reason in text and status.mend in text
    assert list(tmp_path.iterdir()) == []


def test_report_is_whole_and_kept(tmp_path):
    path = tmp_path / "new" / "found.json"
    report = Report(path)
    report.put("a", 1)
    report.put("b", {"x": 1})
    report.put("b", {"y": [2]})
    report.put("c", {1, 2}.__class__)
    assert read_report(path)["b"] == {"x": 1, "y": [2]}
    assert Report(path).get("a") == 1
    path.write_text('{"torn')
    assert read_report(path) == {}
    assert [p.name for p in path.parent.iterdir()] == ["found.json"]


def test_budget(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    budget = cuda_check.Budget(10)
    assert budget.left() == 590
    assert budget.share("bandwidth") == pytest.approx(66)
    assert budget.share("tests") == 590
    now[0] += 550
    assert budget.share("bandwidth") == 40
    now[0] += 100
    assert budget.share("bandwidth") == 0
    assert sum(cuda_check.SHARES.values()) < 0.5


def test_missing_is_told(monkeypatch):
    monkeypatch.setattr(cuda_check.importlib.util, "find_spec", lambda name: None)
    lines = cuda_check.missing(None)
    assert [line.split()[0] for line in lines] == [
        "numba_cuda",
        "torch",
        "pytest",
        "the",
    ]


SUITE = """
import os, time, pytest
def test_good(): pass
def test_bad(): assert 1 == 2
@pytest.mark.skipif(True, reason="no moon")
def test_skipped(): pass
def test_crash(): os._exit(3)
def test_after(): pass
def test_hangs(): time.sleep(600)
def test_context(): raise RuntimeError("cudaErrorIllegalAddress: an access")
def test_last(): pass
"""


def test_a_run_goes_on_after_a_crash_a_hang_and_a_broken_context(tmp_path):
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    chosen = [str(suite), "-c", "/dev/null", "--rootdir", str(tmp_path)]
    found = run_tests(tmp_path, 240, chosen, silence=4)
    names = {n.rpartition("::")[2]: e for n, e in found["others"].items()}
    assert found["counts"] == {
        "passed": 3, "failed": 2, "skipped": 1, "crashed or hung": 2
    }  # fmt: skip
    assert "assert 1 == 2" in names["test_bad"]["message"]
    assert "no moon" in names["test_skipped"]["message"]
    assert names["test_crash"]["outcome"] == names["test_hangs"]["outcome"] == "started"
    (exits,) = found["exits"]
    assert exits[:2] == [3, "stopped: no outcome for too long"]
    assert exits[-1] == 0 and found["whole"]
    assert len(read_outcomes(tmp_path / "outcomes-0.jsonl")) == 8


def test_workers_share_the_tests(tmp_path):
    names = ["test_smaller_floats", *(f"test_{i}" for i in range(7))]
    suite = tmp_path / "test_suite.py"
    suite.write_text("".join(f"def {name}(): pass\n" for name in names))
    chosen = [str(suite), "-c", "/dev/null", "--rootdir", str(tmp_path)]
    found = run_tests(tmp_path, 60, chosen, workers=2)
    assert found["counts"] == {"passed": 8} and found["exits"] == [[0], [0]]
    shards = [list(read_outcomes(tmp_path / f"outcomes-{k}.jsonl")) for k in (0, 1)]
    assert [len(shard) for shard in shards] == [4, 4]
    assert shards[1][-1].endswith("test_smaller_floats")


def test_files_that_cannot_be_loaded_are_failures(tmp_path):
    (tmp_path / "test_broken.py").write_text("import no_such_module\n")
    (tmp_path / "test_whole.py").write_text("def test_one(): pass\n")
    chosen = [str(tmp_path), "-c", "/dev/null", "--rootdir", str(tmp_path)]
    found = run_tests(tmp_path, 60, chosen)
    assert found["counts"] == {"failed": 1, "passed": 1}
    assert "no_such_module" in found["others"]["test_broken.py"]["message"]


@pytest.fixture
def short_times(monkeypatch):
    """Let a measurement take a moment: nobody reads the figures."""
    clock = cuda_figures.Clock
    monkeypatch.setattr(
        cuda_figures, "Clock", lambda device, **_: clock(device, 1, 0.001)
    )


@pytest.mark.usefixtures("short_times")
def test_bandwidth_on_the_cpu(tmp_path, capsys, monkeypatch):
    for group in ("_updates", "_layers", "_elementwise"):
        monkeypatch.setattr(cuda_figures, group, lambda *arrays: iter(()))
    path = tmp_path / "bandwidth.json"
    deadline = time.monotonic() + 120
    cuda_figures.bandwidth(Report(path), "cpu", deadline, elements=1 << 17)
    found = read_report(path)
    assert not [k for k, v in found["kernels"].items() if "error" in v]
    assert found["copy_gb_per_s"] > 0 and found["array_mb"] > 0.5
    figures = found["kernels"]["dropout"]
    assert figures["share_of_copy"] == pytest.approx(
        figures["gb_per_s"] / found["copy_gb_per_s"]
    )
    assert "of copy" in capsys.readouterr().out


def test_one_broken_kernel_loses_no_other(tmp_path):
    report = Report(tmp_path / "f.json")
    clock = cuda_figures.Clock("cpu", rounds=1, budget=1e-4)
    cuda_figures._measure(report, clock, "bad", lambda: 1 / 0, 8, 1.0)
    cuda_figures._measure(report, clock, "good", lambda: None, 8, 1.0)
    kernels = report.get("kernels")
    assert "ZeroDivisionError" in kernels["bad"]["error"] and kernels["good"]["ms"] > 0


def test_training_without_pytorch(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda_figures, "torch_can", lambda device: "no PyTorch")
    report = Report(tmp_path / "f.json")
    cuda_figures.training(report, "nonsense", time.monotonic() + 60)
    assert all("nonsense" in step["error"] for step in report.get("steps").values())
    report = Report(tmp_path / "g.json")
    cuda_figures.training(report, "cpu", time.monotonic() + 0.2)
    first = next(iter(report.get("steps").values()))
    assert first["nnlib_ms"] > 0 and report.get("pytorch") == "no PyTorch"
    assert report.get("left_out") == "the time was up"


@pytest.mark.usefixtures("short_times")
def test_ways_of_recurrent_layers_on_the_cpu(tmp_path):
    report = Report(tmp_path / "f.json")
    cuda_figures.persistent(report, "cpu", time.monotonic() + 300)
    for way in ("cublas", "each_step", "one_launch"):
        layers = report.get(way)
        assert len(layers) == 3
        for name, figures in layers.items():
            assert figures["right"] and figures["same_bits"], name
            assert figures["forward_ms"] > 0


def test_ways_of_convolution_on_the_cpu(tmp_path):
    report = Report(tmp_path / "f.json")
    clock = cuda_figures.Clock("cpu", rounds=1, budget=0.001)
    convolution_ways.measure(report, "cpu", time.monotonic() + 60, clock)
    (figures,) = report.get("ways").values()
    assert len(figures) == 6
    for name, found in figures.items():
        assert found["right"] and found["same_bits"] and found["ms"] > 0, name


def test_parts_that_fail_or_hang_are_reported(tmp_path):
    assert cuda_check.run_part("bandwidth", tmp_path, "nonsense", 60)["exit"] == 1
    found = cuda_check.run_part("bandwidth", tmp_path, "cpu", 0.2)
    assert found["exit"] == "stopped: the time was up"


def test_whole_command_on_the_cpu(tmp_path):
    suite = tmp_path / "test_small.py"
    suite.write_text("import pytest\n@pytest.mark.cuda\ndef test_one(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  cuda: x\n")
    done = subprocess.run(
        [sys.executable, "-m", "nnlib.bench.cuda_check", "--device", "cpu",
         "--output", str(tmp_path), "--minutes", "1", "--tests", str(suite),
         "--only", "tests"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("*-cuda-cpu.json")
    found = json.loads(path.read_text())
    assert found["tests"]["passed"] and found["environment"]["packages"]["numpy"]
    assert found["environment"]["machine"]["versions"]["python"]
    assert found["date"] and found["seconds"] > 0


# A part of which one measurement kills the process and one breaks the CUDA context.
DYING = """
import os, sys
from pathlib import Path
from nnlib.bench.attempts import attempt
from nnlib.bench.report import Report
def broken():
    raise RuntimeError("CUDA_ERROR_MISALIGNED_ADDRESS: misaligned address")
report = Report(Path(sys.argv[sys.argv.index("--report") + 1]))
calls = {"first": dict, "dies": lambda: os._exit(3), "second": dict, "broken": broken,
         "fails": lambda: 1 / 0, "last": dict}
for name, call in calls.items():
    attempt(report, "kernels", name, call)
"""


def test_a_part_goes_on_behind_what_took_its_process_down(tmp_path, monkeypatch):
    script = tmp_path / "part.py"
    script.write_text(DYING)
    run = cuda_check.start

    def start(command, log, **environment):
        # In place of ``python -m nnlib.bench.cuda_figures``.
        return run([command[0], str(script), *command[3:]], log, **environment)

    monkeypatch.setattr(cuda_check, "start", start)
    found = cuda_check.run_part("bandwidth", tmp_path, "cpu", 60)
    assert found["exit"] == [3, 70, 0]
    kernels = found["kernels"]
    assert list(kernels) == ["first", "dies", "second", "broken", "fails", "last"]
    assert kernels["dies"] == {"error": "the process ended here"}
    assert "misaligned" in kernels["broken"]["error"]
    assert "ZeroDivision" in kernels["fails"]["error"] and kernels["last"] == {}


def test_trials_that_kill_their_process_are_left_out(monkeypatch):
    asked = []

    def run(command, **options):
        asked.append({k for k in os.environ if k.startswith("NNLIB_DIRECT")})
        code = -11 if len(asked) < 3 else 0
        return subprocess.CompletedProcess(command, code, '{"launches": {}}\n', "")

    monkeypatch.setattr(cuda_check.subprocess, "run", run)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    found = cuda_check._tried()
    assert found["launches"] == {} and len(found["problems"]) == 2
    assert asked[0] == set() and len(asked[2]) == 2


def test_an_earlier_file_of_the_day_is_kept(tmp_path):
    (tmp_path / "day.json").write_text("{}")
    assert cuda_check._free(tmp_path, "day.json").name == "day-2.json"
