"""An interpreter of PTX: what a kernel's compiled code does, without a GPU.

`Program` is a kernel's parsed PTX; `Machine` runs a launch of it. All threads run
together, an instruction for all of them as one NumPy operation: of the threads, those
go on that are least far in the text, so that threads which took different ways meet
again. Blocks run together as well, and take turns, so that they can wait for one
another. A barrier lets a block's threads go on when all of them have arrived.

Proved by a run are the instructions, their operands and addresses, vector accesses and
their alignment, the parameters' layout, shared memory between barriers. Nothing is
said about time, about the order in which memory is seen by other blocks, and about
threads that run at different speeds, except for what `ptx_order` finds of accesses that
no barrier orders.
"""

from __future__ import annotations

import ctypes
import re
from typing import Any, NamedTuple

import numpy as np
from ptx_memory import LOCAL, SHARED, Fault, Memory
from ptx_operations import bind
from ptx_order import Order

from nnlib.backend import driver
from nnlib.kernels.machinery import gpu

__all__ = ["Fault", "Instruction", "Machine", "Program"]

_SIZES = {"b": "u", "u": "u", "s": "i", "f": "f"}


class Instruction(NamedTuple):
    """One instruction: ``@predicate name operands``."""

    line: int
    predicate: str
    name: str
    operands: tuple[str, ...]
    text: str


class Program:
    """The entry of a PTX module, split at labels, jumps and meeting places."""

    def __init__(self, ptx: str) -> None:
        self.parameters: list[tuple[str, str]] = []
        self.arrays: dict[str, tuple[str, int, int, list[int]]] = {}
        self.registers: dict[str, str] = {}
        self.blocks: list[list[Instruction]] = [[]]
        self.labels: dict[str, int] = {}
        lines = [line.split("//")[0].strip() for line in ptx.splitlines()]
        start = next(i for i, line in enumerate(lines) if ".entry" in line)
        end = start + lines[start:].index("{")
        # Functions stand outside; instructions that call them are refused when reached.
        close = next(
            (i for i in range(end, len(lines)) if lines[i].startswith(".func")),
            len(lines),
        )
        for line in lines[start + 1 : end]:
            found = re.match(r"\.param \.(\w+) ([\w$]+)", line)
            if found:
                self.parameters.append((found[2], found[1]))
        for line in lines:
            self._declare(line)
        text, first = "", 0
        for number in range(end + 1, close):
            if not text:
                first = number
            text = f"{text} {lines[number]}".strip()
            text = self._statements(first + 1, text)

    def _declare(self, line: str) -> None:
        found = re.search(
            r"\.(global|shared|local) \.align (\d+) \.b8\s+([\w$]+)\[(\d+)\]"
            r"(?: = \{(.*)\})?",
            line,
        )
        if found:
            values = [int(v) for v in found[5].split(",")] if found[5] else []
            self.arrays[found[3]] = (found[1], int(found[2]), int(found[4]), values)

    def _statements(self, line: int, text: str) -> str:
        """Take whole statements off a text; return the rest."""
        while text:
            label = re.match(r"(\$?\w+):\s*", text)
            if label:
                if self.blocks[-1]:
                    self.blocks.append([])
                self.labels[label[1]] = len(self.blocks) - 1
                text = text[label.end() :]
            elif text[0] in "{}":
                text = text[1:].strip()
            elif ";" in text:
                statement, _, text = text.partition(";")
                self._statement(line, statement.strip())
                text = text.strip()
            else:
                break
        return text

    def _statement(self, line: int, statement: str) -> None:
        register = re.match(r"\.reg \.(\w+)\s+(.*)", statement)
        if register:
            for name in register[2].split(","):
                self.registers[name.split("<")[0].strip()] = register[1]
            return
        if not statement or statement.startswith("."):
            return
        found = re.match(r"(?:@(!?%\w+)\s+)?(\S+)\s*(.*)", statement)
        assert found is not None
        operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^\s,|]+", found[3])
        name = found[2]
        made = Instruction(line, found[1] or "", name, tuple(operands), statement)
        meets = name.startswith(("bar.", "shfl.", "vote."))
        if meets and self.blocks[-1]:
            self.blocks.append([])
        self.blocks[-1].append(made)
        if meets or name.split(".")[0] in ("bra", "ret", "exit"):
            self.blocks.append([])


class Machine:
    """One launch of a program.

    Attributes
    ----------
    lanes, threads : int
        All threads of the launch; those of a block.
    """

    def __init__(
        self, program: Program, args: tuple[Any, ...], blocks: int, threads: int
    ) -> None:
        self.program, self.blocks, self.threads = program, blocks, threads
        self.lanes = blocks * threads
        self.lane = np.arange(self.lanes)
        self.block = self.lane // threads
        # The warp of each thread, and the first lane of it.
        self.in_warp = self.lane % threads % 32
        self.memory = Memory()
        for arg in args:
            if isinstance(arg, np.ndarray):
                self.memory.add(arg.view(np.ndarray))
        self.order = Order(self)
        self.alive = np.ones(self.lanes, bool)
        self.at = np.zeros(self.lanes, np.int64)
        self.parameters = self._parameters(args)
        self.symbols = self._symbols()
        self.specials = self._specials()
        self._registers: dict[str, Any] = {}
        self._bound: dict[int, list[Any]] = {}
        self.steps = 0

    def _parameters(self, args: tuple[Any, ...]) -> dict[str, bytes]:
        """Lay the arguments out as the kernel declares them, and compare sizes."""
        fields: list[bytes] = []
        for arg in args:
            if isinstance(arg, np.ndarray):
                numbers = [0, 0, arg.size, arg.itemsize, arg.ctypes.data]
                numbers += [*arg.shape, *arg.strides]
                fields += [np.int64(n).tobytes() for n in numbers]
            elif isinstance(arg, bool):
                fields.append(np.bool_(arg).tobytes())
            else:
                fields.append(
                    (np.int64(arg) if isinstance(arg, int) else arg).tobytes()
                )
        declared = self.program.parameters
        if len(fields) != len(declared):
            raise Fault(f"{len(declared)} parameters, {len(fields)} are handed over")
        for field, (name, kind) in zip(fields, declared, strict=True):
            if len(field) * 8 != int(kind[1:]):
                raise Fault(f"parameter {name}: {kind}, got {len(field)} bytes")
        # What a launch hands to the driver.
        arguments = driver.Arguments(gpu.pack(args))
        arguments.set(
            *[getattr(a, "ctypes", None) and a.ctypes.data or a for a in args]
        )
        for field, place in zip(fields, arguments.pointers, strict=False):
            if ctypes.string_at(place, len(field)) != field:
                raise Fault("a launch packs its arguments in another way")
        return {name: f for f, (name, _) in zip(fields, declared, strict=True)}

    def _symbols(self) -> dict[str, Any]:
        """Place the module's arrays; return the address of each for every thread."""
        symbols: dict[str, Any] = {}
        for space, flag in (("shared", SHARED), ("local", LOCAL)):
            chosen = {n: a for n, a in self.program.arrays.items() if a[0] == space}
            wanted = [(size, align) for _, align, size, _ in chosen.values()]
            count = self.blocks if flag == SHARED else self.lanes
            places = self.memory.allocate(wanted, count, flag)
            owner = self.block if flag == SHARED else self.lane
            symbols |= {n: p[owner] for n, p in zip(chosen, places, strict=True)}
        for name, (space, _, _, values) in self.program.arrays.items():
            if space == "global":
                place = self.memory.constants(values)
                symbols[name] = np.full(self.lanes, place, np.uint64)
        return symbols

    def _specials(self) -> dict[str, Any]:
        values = {
            "%tid.x": self.lane % self.threads,
            "%ctaid.x": self.block,
            "%laneid": self.in_warp,
            "%ntid.x": np.full(self.lanes, self.threads),
            "%nctaid.x": np.full(self.lanes, self.blocks),
        }
        for name in ("%tid", "%ctaid"):
            values |= {f"{name}.{axis}": np.zeros(self.lanes) for axis in "yz"}
        for name in ("%ntid", "%nctaid"):
            values |= {f"{name}.{axis}": np.ones(self.lanes) for axis in "yz"}
        return {name: value.astype(np.uint32) for name, value in values.items()}

    def register(self, name: str) -> Any:
        """Return a register of all threads, as an unsigned or boolean array."""
        found = self._registers.get(name)
        if found is None:
            kind = self.program.registers[re.sub(r"\d+$", "", name)]
            dtype = "?" if kind == "pred" else f"u{int(kind[1:]) // 8}"
            found = self._registers[name] = np.zeros(self.lanes, dtype)
        return found

    def value(self, operand: str, kind: str) -> Any:
        """Return an operand as values of an instruction's type, such as ``s64``."""
        if kind == "pred" or (operand.startswith("%p") and operand[2:].isdigit()):
            if operand.startswith("%"):
                return self.register(operand)
            return np.bool_(int(operand))
        dtype = f"{_SIZES[kind[0]]}{int(kind[1:]) // 8}"
        if operand in self.specials:
            return self.specials[operand].astype(dtype)
        if operand.startswith("%"):
            found = self.register(operand)
            if found.itemsize != np.dtype(dtype).itemsize:
                raise Fault(f"{operand} has not the width of {kind}")
            return found.view(dtype)
        if operand in self.symbols:
            return self.symbols[operand]
        if operand.startswith(("0f", "0F")):
            return np.uint32(int(operand[2:], 16)).view("f4")
        if operand.startswith(("0d", "0D")):
            return np.uint64(int(operand[2:], 16)).view("f8")
        bits = int(kind[1:])
        whole = int(operand.rstrip("U"), 0) & ((1 << bits) - 1)
        return np.dtype(f"u{bits // 8}").type(whole).view(dtype)

    def where(self, mask: Any, number: int = 0) -> str:
        """Name the thread of an access, by its number among those in `mask`."""
        lane = int(np.flatnonzero(np.broadcast_to(mask, self.lanes))[number])
        return f"block {self.block[lane]}, thread {lane % self.threads}"

    # -- running ------------------------------------------------------------------

    def run(self, most: int = 2_000_000) -> None:
        """Run the launch to its end."""
        self.waiting = np.zeros(self.lanes, bool)
        turn = 0
        while self.alive.any():
            ready = self.alive & ~self.waiting
            if self.steps % 16 == 15:
                # So that no block's waiting keeps the others from what it waits for.
                turn = (turn + 1) % self.blocks
                mine = ready & (self.block == turn)
                ready = mine if mine.any() else ready
            if not ready.any():
                raise Fault("threads wait for one another in vain")
            place = int(self.at[ready].min())
            mask = ready & (self.at == place)
            self._run_block(place, mask)
            self.steps += 1
            if self.steps > most:
                raise Fault(f"it has not ended after {most} steps")

    def _run_block(self, place: int, mask: Any) -> None:
        block = self._bound.get(place)
        if block is None:
            block = self._bound[place] = [
                (bind(self, made), made) for made in self.program.blocks[place]
            ]
        # What leads elsewhere sets it anew.
        self.at[mask] = place + 1
        whole: Any = True if mask.all() else mask
        for action, made in block:
            try:
                action(whole)
            except Fault as fault:
                raise Fault(f"PTX line {made.line}: {made.text}: {fault}") from None

    def jump(self, mask: Any, label: str) -> None:
        """Let threads go on at a label."""
        self.at[mask] = self.program.labels[label]

    def leave(self, mask: Any) -> None:
        """End threads."""
        self.alive[mask] = False
        self._release()

    def barrier(self, mask: Any) -> None:
        """Let threads wait until all of their block have arrived."""
        self.waiting[mask] = True
        self._release()

    def _release(self) -> None:
        open_ = np.bincount(self.block[self.alive & ~self.waiting], minlength=1)
        open_ = np.pad(open_, (0, self.blocks - len(open_))) == 0
        go = self.waiting & self.alive & open_[self.block]
        if not go.any():
            return
        for block in np.unique(self.block[go]):
            if len(np.unique(self.at[go & (self.block == block)])) > 1:
                raise Fault(f"threads of block {block} wait at different barriers")
            self.order.now[block] += 1
        self.waiting[go] = False
