"""What `present` promises: a sample is alone in its batch, and an absent slot is empty.

Axes: B batch, M modality, C channel, H W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmbench.scenarios.scenario import hide
from mmbench.testing._exact import ExactArithmetic
from mmbench.testing._examples import (
    every_pattern,
    example_batch,
    example_images,
    fixed_chance,
    scenarios_of,
)
from mmbench.testing._require import require
from mmbench_baselines.method import Batch, Method

_TRAINING_GAP = 1e-6


def check_samples_apart(method: Method, *, modes: Sequence[bool] = (False, True)) -> None:
    """Require of every sample of a batch of all patterns the logits that it has alone.

    In evaluation bit for bit; in training to 1e-6, without chance and with batch normalisation on its running
    statistics: it alone may mix the samples of a training batch. In float64, so that rounding is no excuse.

    Args:
        method: Left as it is.
        modes: Whether training, for each check.
    """
    subject = copy.deepcopy(method).double()
    present = every_pattern(method)
    images = {n: i.double() for n, i in hide(example_images(method, len(present)), present).items()}
    for training in modes:
        subject.train(training)
        gap = _largest_gap(subject, images, present)
        allowed, mode = (_TRAINING_GAP, "training") if training else (0.0, "evaluation")
        require(
            gap <= allowed,
            f"in {mode}, a sample's logits move by {gap:.3g} with the batch it is in; "
            f"they may depend on the sample alone",
        )


@torch.no_grad()
def _largest_gap(method: Method, images: Mapping[str, Tensor], present: Tensor) -> float:
    """Return the largest difference of logits between a sample in the batch and the same sample alone."""
    # Batch normalisation refuses one sample of one pixel in training; beside its like, a sample is alone too.
    copies = 2 if method.training else 1
    gaps: list[float] = []
    with ExactArithmetic():  # type: ignore[no-untyped-call]
        together = method(images, present).logits
        for row in range(len(present)):
            rows = [row] * copies
            alone = method({name: image[rows] for name, image in images.items()}, present[rows]).logits
            gaps.append((alone - together[rows]).abs().max().item())
    return max(gaps)


def check_absent_slots(method: Method) -> None:
    """Require logits and loss terms that do not depend on what stands in absent slots.

    Every pattern is a row of the batch; the slots hold the training mean once and noise once. A declared
    method has the same complete images both times.
    """
    present = every_pattern(method)
    batch = example_batch(method, present)
    noise = hide(example_images(method, len(present)), present, example_images(method, len(present), seed=3))
    subject = copy.deepcopy(method).eval()
    with torch.no_grad():
        logits = [subject(images, present).logits for images in (batch.images, noise)]
    require(
        torch.equal(*logits),
        f"in evaluation, the logits move by {(logits[0] - logits[1]).abs().max().item():.3g} when only the "
        "content of absent slots changes",
    )
    steps = [_terms(method, images, batch) for images in (batch.images, noise)]
    for name, value in steps[0].items():
        moved = abs(value - steps[1].get(name, float("nan")))
        require(
            moved == 0,
            f"loss term {name!r} moves by {moved:.3g} when only the content of absent slots changes; what is "
            "hidden may be learnt from by training_step alone, through batch.complete, where it is declared",
        )


def _terms(method: Method, images: Mapping[str, Tensor], batch: Batch) -> dict[str, float]:
    """Return the loss terms of a copy of the method, with other images in the batch."""
    subject = copy.deepcopy(method).train()
    with fixed_chance():
        terms = subject.training_step(Batch(images, batch.present, batch.target, batch.complete))
    return {name: float(term.detach()) for name, term in terms.items()}


@torch.no_grad()
def check_memory(fresh: Method) -> None:
    """Require that evaluation leaves no trace in the method.

    What was present in one call could else stand in for what is hidden in the next: the same images are seen
    complete, and then under each scenario and in a batch of all patterns.

    Args:
        fresh: Newly built, never called.
    """
    mixed = every_pattern(fresh)
    images = example_images(fresh, len(mixed))
    missing = [scenario for scenario in scenarios_of(fresh) if not all(scenario.present)]
    cases = [scenario.rows(len(mixed), mixed.device) for scenario in missing] + [mixed]
    # All of these before the first complete call: a memory that copies share would make both sides equal.
    expected = [copy.deepcopy(fresh).eval()(hide(images, rows), rows).logits for rows in cases]
    second = copy.deepcopy(fresh).eval()
    for rows, logits in zip(cases, expected, strict=True):
        second(dict(images), torch.ones_like(rows))
        gap = (second(hide(images, rows), rows).logits - logits).abs().max().item()
        require(
            gap == 0,
            f"in evaluation, the logits move by {gap:.3g} after the same images were seen complete; "
            "forward may keep nothing between calls",
        )
    state = fresh.state_dict()
    changed = [key for key, value in second.state_dict().items() if not torch.equal(value, state[key])]
    require(not changed, f"evaluation changed {changed[:3]} of the state; only training may")
