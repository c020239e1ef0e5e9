"""What a record keeps of a method's cost: parameters and the work of a forward, by scenario."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mmbench.profiling.counts import count_method
from mmbench.scenarios.scenario import Scenario
from mmbench_baselines.method import Method

_LOG = logging.getLogger("mmbench")


def record_profile(
    method: Method, scenarios: Sequence[Scenario], window: int, precision: str
) -> dict[str, Any] | None:
    """Count one image of the evaluation's window; neither the method nor a random state is changed.

    Args:
        method: On any device.
        scenarios: Those that were scored.
        window: Height and width, pixels.
        precision: "float32" or "bfloat16".

    Returns:
        Window, precision, what it was counted on, parameters, and scenario -> FLOP, bytes and launches of a
        forward in evaluation mode; None, with the reason in the log, where it cannot be counted.
    """
    try:
        counts = count_method(method, scenarios, [1], window, precision=precision, training=False)
    # Counting runs a stranger's code on tensors without values; what it raises must not cost a trained cell.
    except Exception as error:  # noqa: BLE001
        _LOG.warning("the record has no profile: %s: %s", type(error).__name__, error)
        return None
    return {
        "window": window,
        "batch_size": 1,
        "precision": precision,
        "counted_on": counts.counted_on,
        "parameters_trained": sum(p.numel() for p in method.parameters() if p.requires_grad),
        "parameters_inference": counts.parameters_inference,
        "inference": {case.scenario: case.costs.inference.model_dump() for case in counts.cases},
    }
