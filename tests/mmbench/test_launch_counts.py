"""What a GPU would launch is counted where there is none: by kernel, and each tensor of a kernel once."""

from __future__ import annotations

import counted_gains
import pytest
import torch

from mmbench.profiling.counting import Counter
from mmbench.profiling.dry_run import DryRun
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench_kernels import norm_act_pad
from mmbench_kernels._availability import gpu_path, interpreting

pytestmark = pytest.mark.skipif(interpreting(), reason="the interpreter's kernels cannot be watched")
pytest.importorskip("triton", reason="the kernels' host code imports triton")

SHAPE = (2, 8, 64, 64)
MAP = 4 * 2 * 8 * 64 * 64
"""Bytes of it in float32."""
SMALL = 1 << 14
"""Bytes of statistics and partial sums, at most."""


def _count(backend):
    dry_run, counter = DryRun(), Counter()
    with gpu_path(), dry_run, counter.during("training_forward"):
        x = dry_run.hollow(*SHAPE).requires_grad_()
        y = norm_act_pad(x, groups="channel", pad=0, backend=backend)
        with counter.during("training_backward"):
            y.backward(dry_run.hollow(*SHAPE))
    return counter


def test_a_norm_reads_its_map_for_the_moments_and_again_for_the_result():
    forward = _count("triton").total("training_forward", kind="normalisation")
    assert forward.launches == 2
    assert 3 * MAP < forward.bytes < 3 * MAP + SMALL  # read, read, written


def test_its_gradient_reads_map_and_gradient_twice_and_writes_once():
    backward = _count("triton").total("training_backward", kind="normalisation")
    assert backward.launches == 2
    assert 5 * MAP < backward.bytes < 5 * MAP + SMALL


def test_the_path_of_the_processor_is_counted_as_before():
    kinds = _count("torch").kinds
    assert "activation" in kinds  # an operator of its own there


def test_the_targets_of_a_training_step_of_gemmnet_are_met():
    shares = []
    for scenario in whole_modality_scenarios(list(counted_gains.MODALITIES)):
        published, ours = (
            counted_gains.count(scenario, "training step", 512, published=side).total()
            for side in (True, False)
        )
        shares.append((ours.bytes / published.bytes, ours.launches / published.launches))
    of_bytes, of_launches = torch.tensor(shares, dtype=torch.float64).mean(0).tolist()
    assert of_bytes <= 0.40
    assert of_launches <= 0.35
