"""The time of one part of a case: the whole's, shared out as the operators' time is."""

from __future__ import annotations

from typing import Literal

from mmbench.profiling.report import Case, Share

Phase = Literal["inference", "training"]


def part_seconds(case: Case, share: Share, phase: Phase) -> float | None:
    """Return the time of a part, or of operators of a kind; None if it was not timed.

    Args:
        case: With the median latency of a forward, or the median seconds of a training step.
        share: Of this case.
        phase: Which of the two is shared out. The optimisers' time goes to the parts as theirs does.
    """
    if phase == "inference":
        seconds = None if case.latency is None else case.latency.p50_ms / 1e3
        own = share.inference_time
    else:
        seconds, own = case.step_seconds, share.training_time
    return None if seconds is None or own is None else seconds * own
