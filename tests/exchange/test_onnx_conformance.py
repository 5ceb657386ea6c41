"""The ONNX project's node tests, all at once."""

from __future__ import annotations

from collections import Counter

import pytest

from nnlib.onnx import conformance, table

onnx = pytest.importorskip("onnx")


def test_every_node_test_in_scope_passes() -> None:
    outcomes = conformance.run_all()
    failed = [f"{o.name}: {o.detail}" for o in outcomes if o.kind == "failed"]
    assert not failed, "\n".join(failed)
    count = Counter(outcome.kind for outcome in outcomes)
    # The number with onnx 1.23; older packages have fewer tests.
    assert count["passed"] >= min(1509, 0.7 * len(outcomes))


def test_each_version_of_an_operator_is_known() -> None:
    """A version that changed an operator, and is not in the table, would be misread."""
    wrong = []
    for (domain, op), versions in table.supported().items():
        for opset in range(7, 29):
            try:
                schema = onnx.defs.get_schema(op, opset, domain)
            except onnx.defs.SchemaError:
                continue
            since = schema.since_version
            if schema.deprecated:
                continue
            if since not in versions and since > 6:
                wrong.append(f"{op}-{since}")
            elif max((v for v in versions if v <= opset), default=0) < min(since, 1):
                wrong.append(f"{op}-{since}")
    assert not wrong, sorted(set(wrong))
