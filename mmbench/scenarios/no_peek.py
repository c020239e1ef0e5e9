"""No-peek: proof that a method's logits do not depend on what stands in an absent slot."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from mmbench.errors import CellFailedError, ProtocolError
from mmbench.scenarios.scenario import Scenario, hide
from mmbench_baselines.method import Method, Output


def check_no_peek(
    name: str, method: Method, images: Mapping[str, Tensor], scenarios: Sequence[Scenario]
) -> list[str]:
    """Run a method twice per scenario with different finite contents in the absent slots.

    In evaluation the logits must be equal bit for bit; in training, with the same random state, too, and the
    gradient of the logits to the absent slots must be zero. A batch of mixed patterns is checked as well: it
    convicts a method that leaks through a statistic over the batch. Last, the method sees the images complete
    and then under each scenario: it must answer as one that never saw them complete, or it remembers. The
    method itself is left as it was.

    Args:
        name: The method's name, for the error.
        method: On the device of the images.
        images: modality -> (B, C, H, W) in [-1, 1], nothing hidden.
        scenarios: Those to check; the ones where nothing is missing are skipped.

    Returns:
        The names of the scenarios that were checked, and "mixed".

    Raises:
        ProtocolError: Naming the scenario and what depended on hidden content.
        CellFailedError: If the logits are not finite: then nothing can be compared.
    """
    # Noise, not another constant: a method that normalises an input sees all constants alike.
    generator = torch.Generator().manual_seed(0)
    noise = {
        key: (torch.rand(image.shape, generator=generator) * 2 - 1).to(image) for key, image in images.items()
    }
    missing = [scenario for scenario in scenarios if not all(scenario.present)]
    device = next(iter(images.values())).device
    batch_size = len(next(iter(images.values())))
    cases = {s.name: s.rows(batch_size, device) for s in missing}
    if missing and batch_size > 1:
        rows = [scenarios[i % len(scenarios)].present for i in range(batch_size)]
        cases["mixed"] = torch.tensor(rows, device=device)
    # Training-mode layers (running statistics, for one) must not leave a trace in the method.
    subject = copy.deepcopy(method)
    for case, present in cases.items():
        for training in (False, True):
            subject.train(training)
            _check_contents(name, subject, images, noise, present, f"scenario {case!r}")
        _check_gradient(name, subject, hide(images, present, noise), present, f"scenario {case!r}")
    _check_recall(name, method, images, cases)
    return list(cases)


@torch.no_grad()
def _check_recall(
    name: str, method: Method, images: Mapping[str, Tensor], cases: Mapping[str, Tensor]
) -> None:
    """Require of a copy that saw the images complete, as in an evaluation, the logits of one that did not."""

    def logits(subject: Method, present: Tensor) -> Tensor:
        with _fixed_randomness(present.device):
            return _logits(name, subject, subject(hide(images, present), present), images)

    # All of these before the first complete call: a memory that copies share would make both sides equal.
    fresh = {case: logits(copy.deepcopy(method).eval(), present) for case, present in cases.items()}
    subject = copy.deepcopy(method).eval()
    for case, present in cases.items():
        logits(subject, torch.ones_like(present))
        recalled = logits(subject, present)
        if not torch.equal(recalled, fresh[case]):
            raise ProtocolError(
                f"method {name!r} looks at hidden content: in scenario {case!r}, evaluation mode, its logits "
                f"moved by up to {(recalled - fresh[case]).abs().max().item():.3g} once it had seen the same "
                f"images complete; it may remember nothing of one call in the next"
            )


def _check_contents(
    name: str,
    method: Method,
    images: Mapping[str, Tensor],
    noise: Mapping[str, Tensor],
    present: Tensor,
    where: str,
) -> None:
    """Compare the logits under two contents of the absent slots: the training mean, and noise."""
    logits = []
    with torch.no_grad():
        for fill in (None, noise):
            with _fixed_randomness(present.device):
                logits.append(_logits(name, method, method(hide(images, present, fill), present), images))
    if not torch.equal(*logits):
        mode = "training" if method.training else "evaluation"
        largest = (logits[0] - logits[1]).abs().max().item()
        raise ProtocolError(
            f"method {name!r} looks at hidden content: in {where}, {mode} mode, its logits moved by up to "
            f"{largest:.3g} when only an absent slot changed; they may depend on present modalities only"
        )


def _check_gradient(
    name: str, method: Method, images: Mapping[str, Tensor], present: Tensor, where: str
) -> None:
    """Require a zero gradient of the training logits to the absent slots."""
    leaves = {key: image.detach().clone().requires_grad_() for key, image in images.items()}
    with _fixed_randomness(present.device):
        logits = _logits(name, method, method(leaves, present), images)
        weights = torch.randn_like(logits)
    gradients = torch.autograd.grad((logits * weights).sum(), list(leaves.values()), allow_unused=True)
    for column, (key, gradient) in enumerate(zip(leaves, gradients, strict=True)):
        if gradient is not None and bool(gradient[~present[:, column]].any()):
            raise ProtocolError(
                f"method {name!r} looks at hidden content: in {where}, training mode, its logits have a "
                f"gradient to the absent {key!r}; mask it before it is used"
            )


@contextlib.contextmanager
def _fixed_randomness(device: torch.device) -> Iterator[None]:
    """Seed torch inside, and leave its generators as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        yield


def _logits(name: str, method: Method, output: Output, images: Mapping[str, Tensor]) -> Tensor:
    """Return the logits after checking their shape and that they are finite."""
    first = next(iter(images.values()))
    expected = (first.shape[0], method.num_classes, *first.shape[-2:])
    if tuple(output.logits.shape) != expected:
        raise ProtocolError(
            f"method {name!r} returned logits of shape {tuple(output.logits.shape)}, expected {expected}"
        )
    if not bool(output.logits.isfinite().all()):
        raise CellFailedError(
            f"method {name!r} returned logits that are not finite; did its training diverge?"
        )
    return output.logits
