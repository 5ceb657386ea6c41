"""The house's rules that can be read off the source: rooms, imports, sizes."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Rooms from the ground up. A room may import from rooms below it and from itself;
# rooms of one floor are neighbours and may import each other.
FLOORS = (
    ("backend",),
    ("kernels",),
    ("autograd",),
    ("ops",),
    ("nn", "optim", "func"),
    ("data", "text", "io", "onnx", "distributions", "viz", "debug", "distributed"),
    ("models", "train", "utils"),
    ("bench", "cli", "examples"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The face of the package and its command stand above all rooms.
TOP = len(FLOORS)

# Third-party packages that the base install does not have, and who may import them.
OWNERS = {
    "cupy": ("backend",),
    "cupyx": ("backend",),
    "torch": ("bench",),
    "matplotlib": ("viz", "bench", "examples"),
    "graphviz": ("viz",),
    "onnx": ("onnx", "examples"),
    "onnxruntime": ("bench",),
}


def sources() -> list[Path]:
    folders = ("nnlib", "kernels", "bench", "examples")
    return sorted(path for name in folders for path in (ROOT / name).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in ("kernels", "bench"):
        parts = ("nnlib", *parts)
    return ".".join(parts).removesuffix(".__init__")


def room_of(module: str) -> str:
    parts = module.split(".")
    if parts[0] == "examples":
        return "examples"
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR else ""


@functools.cache
def nodes_of(path: Path) -> list[ast.stmt]:
    """Return the imports and the asserts of a file, those inside functions too."""
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = ast.Import, ast.ImportFrom, ast.Assert
    return [node for node in found if isinstance(node, kinds)]


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, full module name) of every import, those inside functions too."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                start = package[: len(package) - node.level + 1]
                base = ".".join([*start, *filter(None, [node.module])])
            # `from nnlib import kernels` names the room only in its list
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}" if base == "nnlib" else base


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_every_folder_is_a_room():
    rooms = {p.parent.name for p in (ROOT / "nnlib").glob("*/__init__.py")}
    assert rooms <= set(FLOOR), f"no floor is given for {sorted(rooms - set(FLOOR))}"


def test_imports_point_downwards():
    wrong = []
    for path in sources():
        room = room_of(module_name(path))
        floor = FLOOR.get(room, TOP)
        for line, name in imports_of(path):
            if name.split(".")[0] != "nnlib":
                continue
            target = room_of(name)
            if not target and floor < FLOOR["bench"]:
                wrong.append(
                    f"{where(path, line)}: imports {name}, the face of the package, "
                    f"which stands above; import from the room itself"
                )
            elif FLOOR.get(target, -1) > floor:
                wrong.append(
                    f"{where(path, line)}: {room} imports {name}, which is above it"
                )
    assert not wrong, "\n".join(wrong)


def test_optional_packages_have_one_owner():
    wrong = []
    for path in sources():
        room = room_of(module_name(path))
        for line, name in imports_of(path):
            package = name.split(".")[0]
            if room not in OWNERS.get(package, (room,)):
                owners = " and ".join(OWNERS[package])
                wrong.append(f"{where(path, line)}: only {owners} may import {package}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", ["kernels", "bench"])
def test_no_second_copy(name):
    wrong = [
        where(path, line)
        for path in [*sources(), *(ROOT / "tests").rglob("*.py")]
        for line, module in imports_of(path)
        if module.split(".")[0] == name
    ]
    assert not wrong, f"import nnlib.{name} instead: {wrong}"


def test_no_assert_in_the_library():
    wrong = [
        where(path, node.lineno)
        for path in sources()
        if room_of(module_name(path)) != "examples"
        for node in nodes_of(path)
        if isinstance(node, ast.Assert)
    ]
    assert not wrong, f"raise an exception instead: {wrong}"


def test_files_stay_readable():
    files = [*sources(), *(ROOT / "tests").rglob("*.py")]
    long = {
        str(path.relative_to(ROOT)): count
        for path in files
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 450
    }
    assert not long, f"about 400 lines is the limit: {long}"


def test_every_package_is_installed():
    import tomllib

    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(setup["tool"]["setuptools"]["packages"])
    found = {
        module_name(path)
        for path in sources()
        if path.name == "__init__.py" and path.parts[len(ROOT.parts)] != "examples"
    }
    assert found == listed
