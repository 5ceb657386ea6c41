"""Cases of conversions and copies."""

from __future__ import annotations

import numpy as np
from harness import Case, Sample, booleans, integers, normal

import nnlib
from nnlib.backend.errors import DeviceError, DTypeError, ShapeError

values = [normal(3, 4) * 3, integers(4), booleans(3)]


def conversion(method, dtype):
    if dtype == "bfloat16":
        return Case(
            "to_bfloat16",
            samples=[values[1], booleans(3)],
            reference=lambda x: x,
            torch=lambda torch, x: x.bfloat16(),
            grad=False,
            half=False,
        )
    return Case(
        f"to_{method}",
        samples=[abs(values[0]), *values[1:]],
        reference=lambda x: x.astype(dtype),
        torch=lambda torch, x: getattr(x, method)(),
        grad=False,
        half=False,
        rtol32=1e-3,
    )


def double(x):
    y = x.double()
    assert y.dtype == np.float64
    return y


CASES = [
    conversion("float", "float32"),
    conversion("half", "float16"),
    conversion("bfloat16", "bfloat16"),
    conversion("long", "int64"),
    conversion("int", "int32"),
    conversion("short", "int16"),
    conversion("char", "int8"),
    conversion("byte", "uint8"),
    conversion("bool", "bool"),
    Case("clone", samples=[normal(3, 4), integers(3)], reference=np.copy),
    Case(
        "contiguous",
        samples=[normal(3, 4), integers(3)],
        reference=np.ascontiguousarray,
        torch=lambda torch, x: x.contiguous(),
        errors=[
            (
                lambda: nnlib.ones(2, 2).contiguous(nnlib.channels_last),
                ShapeError,
                "contiguous: memory_format: channels_last is for 4 dimensions, got 2",
            ),
            (
                lambda: nnlib.ones(2, 2).contiguous("channels_last"),
                DTypeError,
                "contiguous: memory_format: expected nnlib.contiguous_format, .*, got",
            ),
        ],
    ),
    Case(
        "to",
        samples=[(normal(3, 4), "cpu"), (normal(3, 4),)],
        reference=lambda x, device=None: x,
        torch=lambda torch, x, device="cpu": x.to(device),
        errors=[
            (lambda: nnlib.ones(1).to("tpu"), DeviceError, "to: .* dtype, got 'tpu'"),
            (lambda: nnlib.ones(1).to(True), DTypeError, "to: expected a device"),
        ],
    ),
    Case(
        "type_as",
        samples=[(normal(3, 4), normal(1)), (normal(2), integers(1))],
        reference=lambda x, y: x.astype(y.dtype),
        torch=lambda torch, x, y: x.type_as(y),
        grad=False,
        half=False,
    ),
    Case(
        "to_type",
        samples=[Sample((normal(2) * 3, "int64"), {}), (integers(2), "int64")],
        reference=lambda x, dtype: x.astype(dtype),
        torch=lambda torch, x, dtype: x.type(getattr(torch, dtype)),
        grad=False,
        half=False,
        errors=[(lambda: nnlib.ones(1).type("text"), DTypeError, "'text' is not a")],
    ),
    Case(
        "to_cpu",
        samples=[normal(3, 4)],
        reference=np.copy,
        torch=lambda torch, x: x.cpu(),
    ),
    Case(
        "to_cuda",
        samples=[normal(3, 4)],
        reference=np.copy,
        torch=None,
        call=lambda x: x.cuda() if nnlib.backend.device.is_available() else x,
        errors=[]
        if nnlib.backend.device.is_available()
        else [(lambda: nnlib.ones(1).cuda(), DeviceError, "device 'cuda': .* mend it")],
    ),
]
CASES.append(
    Case(
        "to_double",
        samples=values[:1],
        reference=lambda x: x.astype("float64"),
        torch=lambda torch, x: x.double(),
        # The test in float32 wants no float64 anywhere.
        call=lambda x: double(x) if x.dtype == np.float64 else x,
        half=False,
    )
)
