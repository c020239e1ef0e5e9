"""What every method must do, whatever it is.

Axes: B batch, M modality, K class, H W pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmbench.scenarios.no_peek import check_no_peek
from mmbench.scenarios.scenario import hide, whole_modality_scenarios
from mmbench.testing._require import require
from mmbench_baselines.method import Batch, Method
from mmbench_baselines.optim import OptimizerParams

_MODALITIES = {"irrg": 3, "ndsm": 1}
_NUM_CLASSES = 6


def check_method(
    method_class: type[Method],
    modalities: Mapping[str, int] = _MODALITIES,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run the whole contract on a method.

    Args:
        method_class: With its defaults, unless options say otherwise.
        modalities: Name -> channels; two by default, which every method must take.
        options: Keyword arguments of the constructor.

    Raises:
        AssertionError: Saying which clause is broken and how.
        ProtocolError: If the method looks at hidden content.
    """
    check_facts(method_class)
    torch.manual_seed(0)
    method = method_class(modalities, _NUM_CLASSES, **(options or {}))
    check_forward(method)
    check_training(method)
    check_sizes(method)
    check_state(method, method_class(modalities, _NUM_CLASSES, **(options or {})))
    check_patterns(method)
    scenarios = whole_modality_scenarios(list(modalities))
    check_no_peek(method_class.__name__, method, _images(method, 3), scenarios)


def check_facts(method_class: type[Method]) -> None:
    """Require the class facts that cards and tables print."""
    for fact in ("title", "paper", "source"):
        value = getattr(method_class, fact, None)
        require(isinstance(value, str) and value, f"{fact} is {value!r}, expected a text")
    deviations = method_class.deviations
    require(
        isinstance(deviations, tuple) and all(isinstance(d, str) for d in deviations),
        f"deviations is {deviations!r}, expected a tuple of texts",
    )


def check_forward(method: Method) -> None:
    """Require logits of the right shape for every pattern, mixed in one batch, and untouched inputs."""
    images, present = _images(method, 3), _mixed_rows(method, 3)
    images = hide(images, present)
    copies = {name: image.clone() for name, image in images.items()}
    for training in (True, False):
        method.train(training)
        with torch.set_grad_enabled(training):
            logits = method(images, present).logits
        expected = (3, method.num_classes, *next(iter(images.values())).shape[-2:])
        require(tuple(logits.shape) == expected, f"logits are {tuple(logits.shape)}, expected {expected}")
        require(bool(logits.isfinite().all()), "logits are not finite")
        for name, image in images.items():
            require(torch.equal(image, copies[name]), f"forward wrote into images[{name!r}]")
    _check_samples_apart(method, images, present)


def _check_samples_apart(method: Method, images: Mapping[str, Tensor], present: Tensor) -> None:
    """Require that a sample's logits in evaluation do not depend on the rest of its batch.

    In float64: a convolution may sum in another order for another batch size, and in float32 a method that
    normalises nearly constant maps turns that into visible differences.
    """
    subject = copy.deepcopy(method).double().eval()
    doubles = {name: image.double() for name, image in images.items()}
    with torch.no_grad():
        together = subject(doubles, present).logits
        for row in range(len(present)):
            rows = slice(row, row + 1)
            alone = subject({n: i[rows] for n, i in doubles.items()}, present[rows]).logits
            gap = (alone - together[rows]).abs().max().item()
            require(gap <= 1e-6, f"a sample's logits move by {gap:.3g} with the batch it is in")


def check_training(method: Method) -> None:
    """Require finite, named loss terms and gradients for every pattern, and optimisers that take a step."""
    optimizers = method.configure_optimizers(OptimizerParams(lr=1e-4))
    require(len(optimizers) >= 1, "configure_optimizers returned none, expected at least one")
    method.train()
    for scenario in whole_modality_scenarios(list(method.modalities)):
        batch = example_batch(method, scenario.rows(2, torch.device("cpu")))
        terms = method.training_step(batch)
        require(terms, "training_step returned no terms")
        for name, term in terms.items():
            require(term.ndim == 0, f"loss term {name!r} has shape {tuple(term.shape)}, expected a scalar")
            value = float(term.detach())
            require(math.isfinite(value), f"{scenario.name}: loss term {name!r} is {value}")
        method.zero_grad(set_to_none=True)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        gradients = {n: p.grad for n, p in method.named_parameters() if p.grad is not None}
        require(gradients, f"{scenario.name}: no parameter has a gradient")
        for name, gradient in gradients.items():
            require(bool(gradient.isfinite().all()), f"{scenario.name}: gradient of {name} is not finite")
        for optimizer in optimizers:
            optimizer.step()
    held = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    missed = [n for n, p in method.named_parameters() if p.requires_grad and id(p) not in held]
    require(not missed, f"no optimiser holds {missed[:3]}, every trainable parameter needs one")
    require(
        method.sees_hidden_in_training or _trains_without_complete(method),
        "training_step needs batch.complete; declare it by sees_hidden_in_training",
    )


def _trains_without_complete(method: Method) -> bool:
    """Whether a training step works when the harness withholds the complete images."""
    rows = whole_modality_scenarios(list(method.modalities))[-1].rows(2, torch.device("cpu"))
    batch = example_batch(method, rows)
    return bool(method.training_step(Batch(batch.images, batch.present, batch.target, None)))


def check_sizes(method: Method) -> None:
    """Require that a size the method cannot take is refused with the size to pad to."""
    side = _side(method)
    present = torch.ones(1, len(method.modalities), dtype=torch.bool)
    if method.size_multiple > 1:
        images = {n: torch.zeros(1, c, side + 1, side) for n, c in method.modalities.items()}
        try:
            method(images, present)
        except ValueError as error:
            padded = side + method.size_multiple
            require(f"{padded}x{side}" in str(error), f"the error names no size to pad to: {error}")
        else:
            require(False, f"height {side + 1} is no multiple of {method.size_multiple} and was taken")


def check_state(method: Method, fresh: Method) -> None:
    """Require that a state dict carries a method over completely."""
    fresh.load_state_dict(method.state_dict())
    images, present = _images(method, 1), _mixed_rows(method, 1)
    method.eval()
    fresh.eval()
    with torch.no_grad():
        same = torch.equal(method(images, present).logits, fresh(images, present).logits)
    require(same, "logits differ after load_state_dict(state_dict()); something is kept outside it")


def check_patterns(method: Method) -> None:
    """Require proper distributions over non-empty presence patterns at any step."""
    for step in (0, 50, 99):
        distribution = method.patterns(step, 100)
        require(
            abs(sum(distribution.values()) - 1) < 1e-6, f"patterns({step}, 100) sum to no 1: {distribution}"
        )
        for pattern in distribution:
            require(
                len(pattern) == len(method.modalities) and any(pattern),
                f"patterns({step}, 100) has {pattern}, expected {len(method.modalities)} bools, one True",
            )


def _side(method: Method) -> int:
    """Return a small side, pixels, that the method takes."""
    least = max(64, method.size_minimum)
    return -(-least // method.size_multiple) * method.size_multiple


def _images(method: Method, batch_size: int) -> dict[str, Tensor]:
    """Return seeded images in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    side = _side(method)
    return {
        name: torch.rand(batch_size, channels, side, side, generator=generator) * 2 - 1
        for name, channels in method.modalities.items()
    }


def _mixed_rows(method: Method, batch_size: int) -> Tensor:
    """Return a different pattern for each sample, as far as there are, (B, M) bool."""
    scenarios = whole_modality_scenarios(list(method.modalities))
    return torch.tensor([scenarios[i % len(scenarios)].present for i in range(batch_size)])


def example_batch(method: Method, present: Tensor) -> Batch:
    """Return a small seeded batch as the harness makes it, a few pixels ignored.

    Args:
        method: Its modalities, classes and sizes are kept to.
        present: (B, M) bool.
    """
    images = _images(method, len(present))
    side = _side(method)
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, method.num_classes, (len(present), side, side), generator=generator)
    target[:, :4] = method.ignore_index
    return Batch(hide(images, present), present, target, images if method.sees_hidden_in_training else None)
