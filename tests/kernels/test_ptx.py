"""The PTX interpreter: its instructions, what it refuses, and kernels run in it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import ptx_cases
import pytest
from kernel_cases import all_cases, load_families
from ptx import Fault, Machine, Program

_HEAD = """
.visible .shared .align 16 .b8 room[256];
.visible .entry kernel(
    .param .u64 p0,
    .param .u64 p1
)
{
    .reg .pred %p<9>; .reg .b32 %r<9>; .reg .f32 %f<9>; .reg .b64 %rd<9>;
    .reg .b16 %rs<9>; .reg .f64 %fd<9>;
    ld.param.u64 %rd0, [p0];
    ld.param.u64 %rd1, [p1];
    mov.u32 %r0, %tid.x;
    mul.wide.u32 %rd2, %r0, 4;
    add.s64 %rd3, %rd0, %rd2;
    add.s64 %rd4, %rd1, %rd2;
    mov.u64 %rd5, room;
    add.s64 %rd6, %rd5, %rd2;
"""


def _run(body, x, out, blocks=1, threads=None):
    """Run instructions with the addresses of x and out in %rd0 and %rd1."""
    program = Program(_HEAD + body + "\nret;\n}\n")
    addresses = (x.ctypes.data, out.ctypes.data)
    machine = Machine(program, addresses, blocks, threads or len(out))
    machine.memory.add(x)
    machine.memory.add(out)
    with np.errstate(all="ignore"):
        machine.run()
    return out


def _aligned(count, dtype, shift=0):
    """Return zeros at an address that is a multiple of 64, and `shift` bytes."""
    size = np.dtype(dtype).itemsize * count
    whole = np.zeros(size + 128, np.uint8)
    start = -whole.ctypes.data % 64 + shift
    return whole[start : start + size].view(dtype)


_INT = "ld.global.u32 %r1, [%rd3]; {} st.global.u32 [%rd4], %r3;"
_FLOAT = "ld.global.f32 %f1, [%rd3]; {} st.global.f32 [%rd4], %f3;"


@pytest.mark.parametrize(
    ("instructions", "given", "expected"),
    [
        ("add.s32 %r3, %r1, -1;", [0, 5], [0xFFFFFFFF, 4]),
        ("shr.s32 %r3, %r1, 1;", [0x80000000, 6], [0xC0000000, 3]),
        ("shr.u32 %r3, %r1, 1;", [0x80000000, 6], [0x40000000, 3]),
        ("shl.b32 %r3, %r1, 40;", [1, 3], [0, 0]),
        ("div.s32 %r3, %r1, -2;", [7, 0xFFFFFFF9], [0xFFFFFFFD, 3]),
        ("rem.s32 %r3, %r1, 4;", [7, 0xFFFFFFF9], [3, 0xFFFFFFFD]),
        ("div.u32 %r3, %r1, 2;", [7, 0xFFFFFFF9], [3, 0x7FFFFFFC]),
        ("mul.hi.u32 %r3, %r1, %r1;", [1 << 20, 3], [1 << 8, 0]),
        ("mul.lo.s32 %r3, %r1, %r1;", [1 << 20, 3], [0, 9]),
        ("mad.lo.s32 %r3, %r1, %r1, 2;", [5, 3], [27, 11]),
        ("bfi.b32 %r3, %r1, 255, 4, 2;", [1, 2], [223, 239]),
        ("clz.b32 %r3, %r1;", [1, 0], [31, 32]),
        ("not.b32 %r3, %r1;", [1, 0], [0xFFFFFFFE, 0xFFFFFFFF]),
        ("setp.lt.s32 %p1, %r1, 0; selp.b32 %r3, 7, 8, %p1;", [0xFFFFFFFF, 1], [7, 8]),
        ("setp.lt.u32 %p1, %r1, 9; selp.b32 %r3, 7, 8, %p1;", [0xFFFFFFFF, 1], [8, 7]),
        ("cvt.s64.s32 %rd7, %r1; shr.u64 %rd7, %rd7, 32; cvt.u32.u64 %r3, %rd7;",
         [0x80000000, 5], [0xFFFFFFFF, 0]),
        ("mul.wide.s32 %rd7, %r1, -3; shr.u64 %rd7, %rd7, 32; cvt.u32.u64 %r3, %rd7;",
         [5, 0xFFFFFFFF], [0xFFFFFFFF, 0]),
        ("cvt.u64.u32 %rd7, %r1; mov.b64 {%r2, %r3}, %rd7;", [5, 6], [0, 0]),
        ("mov.b64 %rd7, {%r1, %r0}; mov.b64 {%r2, %r3}, %rd7;", [5, 6], [0, 1]),
        ("atom.global.add.u32 %r2, [%rd0], 1; ld.global.u32 %r3, [%rd0];",
         [5, 6], [7, 7]),
    ],
)  # fmt: skip
def test_integers(instructions, given, expected):
    x = np.array(given, np.uint32)
    out = _run(_INT.format(instructions), x, np.zeros(2, np.uint32))
    np.testing.assert_array_equal(out, np.array(expected, np.uint32))


@pytest.mark.parametrize(
    ("instructions", "given", "expected"),
    [
        ("add.f32 %f3, %f1, 0f3F800000;", [1.5, -1], [2.5, 0]),
        # One part in 2^30 of a number is lost in each rounding but the last.
        ("fma.rn.f32 %f3, %f1, %f1, 0fBF800000;", [1 + 2**-15, 1],
         [2**-14 + 2**-30, 0]),
        ("fma.rm.f32 %f3, %f1, 0f3F800000, 0fAF800000;", [1, -1],
         [1 - 2**-24, -1 - 2**-23]),
        ("add.rz.f32 %f3, %f1, 0fAF800000;", [1, -1], [1 - 2**-24, -1]),
        ("cvt.sat.f32.f32 %f3, %f1;", [2, np.nan], [1, 0]),
        ("cvt.rni.f32.f32 %f3, %f1;", [2.5, -3.5], [2, -4]),
        ("cvt.rzi.s32.f32 %r1, %f1; cvt.rn.f32.s32 %f3, %r1;", [2.9, -2.9], [2, -2]),
        ("ex2.approx.ftz.f32 %f3, %f1;", [3, -140], [8, 0]),
        ("copysign.f32 %f3, 0f80000000, %f1;", [3, -2], [-3, -2]),
        ("max.f32 %f3, %f1, 0f3F800000;", [np.nan, 2], [1, 2]),
        ("setp.ltu.f32 %p1, %f1, 0f3F800000; selp.f32 %f3, %f1, 0f00000000, %p1;",
         [np.nan, 2], [np.nan, 0]),
        ("setp.ne.f32 %p1, %f1, %f1; selp.f32 %f3, %f1, 0f00000000, %p1;",
         [np.nan, 2], [0, 0]),
        ("cvt.f64.f32 %fd1, %f1; mul.f64 %fd1, %fd1, 0d4000000000000000; "
         "cvt.rn.f32.f64 %f3, %fd1;", [1.5, -1], [3, -2]),
        ("neg.f32 %f3, %f1;\n@%p1 neg.f32 %f3, %f3;", [1, -1], [-1, 1]),
    ],
)  # fmt: skip
def test_floats(instructions, given, expected):
    x = np.array(given, np.float32)
    out = _run(_FLOAT.format(instructions), x, np.zeros(2, np.float32))
    np.testing.assert_array_equal(out, np.array(expected, np.float32))


_LOOP = """
    mov.u32 %r1, 0; mov.u32 %r2, 0;
$again:
    setp.gt.u32 %p1, %r2, %r0;
    @%p1 bra $done;
    add.u32 %r1, %r1, %r2; add.u32 %r2, %r2, 1;
    bra.uni $again;
$done:
    bar.sync 0;
    st.shared.u32 [%rd6], %r1;
    bar.sync 0;
    sub.s64 %rd7, %rd5, %rd2;
    ld.shared.u32 %r3, [%rd7+12];
    shfl.sync.bfly.b32 %r4|%p2, %r3, 1, 31, -1;
    mov.u32 %r5, %ctaid.x; mad.lo.s32 %r4, %r5, 100, %r4;
    mul.wide.u32 %rd7, %r5, 16; add.s64 %rd4, %rd4, %rd7;
    st.global.u32 [%rd4], %r4;
"""


def test_threads_take_their_own_ways_and_meet():
    x, out = np.zeros(1, np.uint32), np.zeros(8, np.uint32)
    _run(_LOOP, x, out, blocks=2, threads=4)
    assert out.tolist() == [3, 6, 0, 1, 103, 106, 100, 101]


def test_vectors():
    x, out = _aligned(16, np.float32), _aligned(16, np.float32)
    x[:] = np.arange(16)
    body = """
        mul.wide.u32 %rd7, %r0, 16;
        add.s64 %rd3, %rd0, %rd7; add.s64 %rd4, %rd1, %rd7;
        ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%rd3];
        st.global.v2.f32 [%rd4], {%f4, %f3}; st.global.v2.f32 [%rd4+8], {%f2, %f1};
    """
    _run(body, x, out, threads=4)
    np.testing.assert_array_equal(out.reshape(4, 4), x.reshape(4, 4)[:, ::-1])
    with pytest.raises(Fault, match=r"line \d+: ld.*thread 3: .*outside of every"):
        _run(body, x[:15], out, threads=4)
    with pytest.raises(Fault, match=r"thread 0: .*not aligned to 16"):
        _run(body, _aligned(16, np.float32, 8), out, threads=4)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ld.global.f32 %f1, [%rd3+8];", "thread 2: .*outside"),
        ("ld.global.f32 %f1, [%rd0+-4];", "outside"),
        ("ld.shared.f32 %f1, [%rd0];", "outside"),
        ("ld.global.f32 %f1, [%rd3+2];", "not aligned to 4"),
        ("st.shared.f32 [%rd6+244], %f1;", "thread 3: .*outside"),
        ("st.shared.f32 [%rd5], %f1;", "no barrier orders"),
        ("st.shared.f32 [%rd6], %f1; ld.shared.f32 %f2, [%rd5+4];", "no barrier"),
        ("ld.shared.f32 %f2, [%rd5+4]; st.shared.f32 [%rd6], %f1;", "no barrier"),
        ("st.global.f32 [%rd1], %f1;", "no barrier"),
        ("ld.global.f32 %f1, [%rd1+4]; st.global.f32 [%rd4], %f1;", "no barrier"),
        ("setp.eq.u32 %p1, %r0, 2; @%p1 bra $no; bar.sync 0;\n$no:\nbar.sync 0;",
         "different barriers|wait"),
        ("setp.eq.u32 %p1, %r0, 2; @%p1 bra $no;\n"
         "shfl.sync.bfly.b32 %r4, %r0, 1, 31, -1;\n$no:\n", "not here"),
        ("$on:\nbra.uni $on;", "not ended"),
        ("frob.u32 %r1, %r2;", "not known"),
    ],
)  # fmt: skip
def test_refuses(body, message, monkeypatch):
    monkeypatch.setattr(Machine.run, "__defaults__", (500,))
    with pytest.raises(Fault, match=message):
        _run(body, _aligned(4, np.float32), _aligned(4, np.float32))


def test_blocks_must_not_share_what_they_write():
    body = "st.global.f32 [%rd4], %f1; bar.sync 0; ld.global.f32 %f1, [%rd1];"
    _run(body, np.zeros(4, np.float32), np.zeros(4, np.float32))
    with pytest.raises(Fault, match="block 0, thread 0: no barrier orders"):
        _run(body, np.zeros(4, np.float32), np.zeros(4, np.float32), 2, 4)


def test_parameters_are_compared_with_the_declared_ones():
    program = Program(_HEAD + "ret;\n}\n")
    with pytest.raises(Fault, match="2 parameters, 1"):
        Machine(program, (5,), 1, 1)
    with pytest.raises(Fault, match="u64, got 4 bytes"):
        Machine(program, (5, np.float32(1)), 1, 1)


# -- kernels ----------------------------------------------------------------------

# All the others run by ``python tests/kernels/ptx_cases.py``.
_CHOSEN = (
    "activation: relu, odd sizes", "activation: relu_backward, odd sizes",
    "activation: bias_relu, odd sizes", "activation: gelu", "activation: log",
    "add_rows: many to few", "attention: plain", "convolution: 2-d",
    "convolution: strided past the kernel", "convolution: unfold and fold",
    "ctc: float32", "embedding: gather", "embedding: bag float32",
    "gemm: gelu, bias True", "loss: huber, f4",
    "normalization: channels, f4, (2, 70, 3)",
    "normalization: rows, f4, (2, 5), True", "optimizer: adam, views",
    "optimizer: adam", "philox: bits, many places", "philox: normal float32",
    "philox: dropout, many places", "philox: dropout float32", "pooling: plain, f4",
    "pooling: padded, f4", "recurrent: _gru, f4, [3, 2, 2, 1], False",
    "recurrent: _lstm in one launch, f4, [3, 2, 2, 1], False",
    "reduction: sum of all, two rounds", "reduction: sum of columns",
    "resize: bilinear, f4", "skipgram: CBoW", "skipgram_loss: float32",
    "softmax: softmax, f4, 3 x 37", "softmax: softmax, long rows",
    "softmax_cross_entropy: plain float32", "softmax_cross_entropy: long rows",
)  # fmt: skip
_needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed"
)


@pytest.fixture(scope="module")
def cases():
    load_families()
    return all_cases()


@_needs_compiler
@pytest.mark.parametrize("name", _CHOSEN)
def test_compiled_kernel_agrees_with_cpu_loop(cases, name):
    assert ptx_cases.check(cases[name])


@_needs_compiler
def test_first_cases_of_other_families(cases):
    seen = {name.partition(":")[0] for name in _CHOSEN}
    for name, case in cases.items():
        family = name.partition(":")[0]
        if family not in seen:
            seen.add(family)
            assert ptx_cases.check(case), name


@_needs_compiler
def test_operations_launch_what_agrees_with_the_cpu():
    # All the others run by ``python tests/kernels/ptx_ops.py``.
    names = ("leaky_relu", "softmax", "max_pool2d", "embedding")
    command = [sys.executable, str(Path(__file__).parent / "ptx_ops.py"), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    launched = re.findall(r"s  (\w+), ([1-9]\d*) launched", done.stdout)
    assert {name for name, _ in launched} == set(names)
