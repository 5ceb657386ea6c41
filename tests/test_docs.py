"""What the documents promise: every example in them runs."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
from pathlib import Path

import pytest
from ahead import run_script

import nnlib

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
# A block of code, and the comment before it that says how it is meant.
BLOCK = re.compile(
    r"(?:<!-- *(?P<mark>[a-z ]+) *-->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")


def modules() -> list[str]:
    # nnlib's own path finds kernels and bench too: they are mapped to its sub-packages
    found = [
        info.name
        for info in pkgutil.walk_packages(nnlib.__path__, "nnlib.")
        if not info.name.endswith("__main__")
    ]
    for name in ("kernels", "bench"):
        package = importlib.import_module(f"nnlib.{name}")
        found.append(package.__name__)
        found += [
            info.name
            for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        ]
    return sorted({"nnlib", *found})


@pytest.mark.parametrize("name", modules())
def test_doctests(name):
    # by import name: --doctest-modules would load kernels/ a second time, as `kernels`
    module = importlib.import_module(name)
    failures, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert failures == 0


def python_blocks(page: Path) -> list[str]:
    """Return the Python blocks of a page, less those marked as fragments."""
    return [
        match["code"]
        for match in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if match["language"] == "python" and (match["mark"] or "").strip() != "fragment"
    ]


def run_page(folder, page):
    """Run the blocks of one page in order, as one program, in a folder of their own."""
    code = "\n".join(python_blocks(page))
    if not code:
        pytest.skip("no Python in it")
    needs_data = re.search(r"\b(MNIST|FashionMNIST)\(", code)
    if needs_data and not os.environ.get("NNLIB_DATA"):
        pytest.skip("needs real data sets: set NNLIB_DATA")
    # Not under the page's own name, which may be a package's.
    script = folder / f"page_{page.stem}.py"
    script.write_text(code, encoding="utf-8")
    return run_script(["-W", "error", str(script)], folder)


@pytest.mark.ahead(job=run_page)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_run(page, begun):
    assert begun.returncode == 0, f"{page.name}:\n{begun.stdout}\n{begun.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for match in LINK.finditer(text):
        target = match["target"].partition("#")[0]
        if target and not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_two_commands_lead_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python -m pip install .*$", text, re.MULTILINE)
    assert commands[:2] == [
        "python -m pip install . && nnlib demo",
        'python -m pip install -e ".[test]" && python -m pytest',
    ]


def test_every_example_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert set(re.findall(r"`python examples/(\w+\.py)`", text)) == scripts
