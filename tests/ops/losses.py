"""What the cases of the losses share: reductions, and where PyTorch keeps them."""

from __future__ import annotations

from typing import Any

from harness import Case, Sample


def reduced(values: Any, reduction: str = "mean") -> Any:
    if reduction == "none":
        return values
    return values.mean() if reduction == "mean" else values.sum()


def over_reductions(*args: Any, **kwargs: Any) -> list[Sample]:
    """Return one sample per reduction; sum first, because it is defined on nothing."""
    return [
        Sample(args, {**kwargs, "reduction": reduction})
        for reduction in ("sum", "mean", "none")
    ]


def case(name: str, samples: list[Any], reference: Any, **options: Any) -> Case:
    options.setdefault("torch", f"nn.functional.{name}")
    return Case(name, samples, reference, **options)
