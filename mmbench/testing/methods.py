"""What every method must do, whatever it is.

Axes: B batch, M modality, K class, H W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmbench.scenarios.no_peek import check_no_peek
from mmbench.scenarios.scenario import hide
from mmbench.testing._elsewhere import Elsewhere, ElsewhereTensor, WrongDeviceError
from mmbench.testing._examples import (
    LARGER_SIDE,
    LEAST_SIDE,
    every_pattern,
    example_batch,
    example_images,
    example_side,
    left_alone,
    scenarios_of,
)
from mmbench.testing._require import require
from mmbench.testing.learning import check_declaration, check_training
from mmbench.testing.presence import check_absent_slots, check_memory, check_samples_apart
from mmbench_baselines.method import Batch, Method, Output

__all__ = ["check_method", "example_batch"]

_MODALITIES = {"irrg": 3, "ndsm": 1}
_OTHER_MODALITIES: tuple[dict[str, int], ...] = (
    {"irrg": 5},
    {"ndsm": 2, "irrg": 7},
    {"irrg": 3, "ndsm": 1, "sar": 2},
    {"irrg": 4, "ndsm": 1, "sar": 2, "thermal": 3},
)
_NUM_CLASSES = 6


def check_method(
    method_class: type[Method],
    modalities: Mapping[str, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Run the whole contract on a method.

    Args:
        method_class: With its defaults, unless options say otherwise; small ones keep it quick.
        modalities: Name -> channels. None is two, which every method must take, and then 1 to 4 with odd
            numbers of channels, which it may refuse by a ValueError.
        options: Keyword arguments of the constructor.

    Raises:
        AssertionError: Saying which clause is broken and how.
        ProtocolError: If the method looks at hidden content.
    """
    check_facts(method_class)
    torch.manual_seed(0)
    build = partial(method_class, num_classes=_NUM_CLASSES, **(options or {}))
    _check_whole(partial(build, modalities or _MODALITIES))
    if modalities is None:
        for others in _OTHER_MODALITIES:
            check_modalities(build, others)


def _check_whole(build: Callable[[], Method]) -> None:
    """Run every clause on one set of modalities."""
    method = build()
    check_forward(method)
    check_sizes(method)  # before the checks that use two of them
    check_memory(build())
    _check_no_peek(method)
    check_declaration(method)
    check_samples_apart(method)
    check_patterns(method)
    check_training(method)
    check_absent_slots(method)
    check_state(method, build())
    check_devices(method)


def _check_no_peek(method: Method) -> None:
    """Run the harness's proof on small windows and on larger ones: a part may work from a size on only."""
    for batch_size, least in ((3, LEAST_SIDE), (2, LARGER_SIDE)):
        side = example_side(method, least)
        images = example_images(method, batch_size, size=(side, side))
        check_no_peek(type(method).__name__, method, images, scenarios_of(method))


def check_modalities(build: Callable[[Mapping[str, int]], Method], modalities: Mapping[str, int]) -> None:
    """Require that a method takes these modalities, or says why it does not.

    Args:
        build: Builds the method for modalities.
        modalities: Name -> channels.
    """
    count = len(modalities)
    try:
        method = build(modalities)
    except ValueError as error:
        require(
            str(count) in str(error) and "expected" in str(error),
            f"{count} modalities were refused by {str(error)!r}; expected words on how many came and how "
            "many are expected",
        )
        return
    check_forward(method)
    check_samples_apart(method, modes=(False,))
    check_training(method)
    check_absent_slots(method)


def check_facts(method_class: type[Method]) -> None:
    """Require the class facts that cards and tables print."""
    for fact in ("title", "paper", "source"):
        value = getattr(method_class, fact, None)
        require(isinstance(value, str) and value, f"{fact} is {value!r}, expected a text")
    for fact in ("licence", "parity", "beware"):
        value = getattr(method_class, fact)
        require(isinstance(value, str), f'{fact} is {value!r}, expected a text, or "" where it is not stated')
    deviations = method_class.deviations
    require(
        isinstance(deviations, tuple) and all(isinstance(d, str) for d in deviations),
        f"deviations is {deviations!r}, expected a tuple of texts",
    )


def check_forward(method: Method) -> None:
    """Require logits of the right shape and type for a batch of all patterns, and inputs left alone."""
    present = every_pattern(method)
    images = hide(example_images(method, len(present)), present)
    inputs = {f"images[{name!r}]": image for name, image in images.items()} | {"present": present}
    expected = (len(present), method.num_classes, *next(iter(images.values())).shape[-2:])
    subject = copy.deepcopy(method)  # training moves running statistics
    for training, low in ((True, False), (False, False), (False, True)):
        subject.train(training)
        with (
            left_alone(inputs, "forward"),
            torch.set_grad_enabled(training),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=low),
        ):
            output = subject(dict(images), present)
        require(isinstance(output, Output), f"forward returned {type(output).__name__}, expected Output")
        shape, dtype = tuple(output.logits.shape), output.logits.dtype
        require(shape == expected, f"logits are {shape}, expected {expected}")
        where = "under bfloat16 autocast" if low else "from float32 images"
        allowed = (torch.float32, torch.bfloat16) if low else (torch.float32,)
        require(dtype in allowed, f"{where}, logits are {dtype}, expected {' or '.join(map(str, allowed))}")
        require(bool(output.logits.isfinite().all()), f"{where}, logits are not finite")


def check_devices(method: Method) -> None:
    """Require that the method goes where its inputs are: no tensor is created on a device of its own.

    Weights and batch claim to be elsewhere; what forward or training_step creates without a device, or on a
    named one, then stands on the CPU.
    """
    batch = example_batch(method, every_pattern(method))
    with Elsewhere():  # type: ignore[no-untyped-call]
        subject = copy.deepcopy(method)._apply(ElsewhereTensor)  # type: ignore[no-untyped-call]
        complete = None if batch.complete is None else _move(batch.complete)
        moved = Batch(
            _move(batch.images), ElsewhereTensor(batch.present), ElsewhereTensor(batch.target), complete
        )
        try:
            for training in (False, True):
                logits = subject.train(training)(moved.images, moved.present).logits
                require(isinstance(logits, ElsewhereTensor), "logits are on the CPU, the inputs are not")
            subject.training_step(moved)
        except WrongDeviceError as error:
            raise AssertionError(
                f"a tensor is created on a fixed device: {error}; use the inputs' own"
            ) from error


def _move(images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return images that claim to be elsewhere."""
    return {name: ElsewhereTensor(image) for name, image in images.items()}


def check_sizes(method: Method) -> None:
    """Require that other sizes work, and that a wrong one is refused with the size to pad to."""
    side, multiple = example_side(method), method.size_multiple
    present = torch.ones(1, len(method.modalities), dtype=torch.bool)
    _check_size_taken(method, (side + multiple, side + 2 * multiple))
    wrong = [((side + 1, side), (side + multiple, side))] if multiple > 1 else []
    if (small := method.size_minimum - multiple) > 0:
        wrong.append(((small, side), (method.size_minimum, side)))
    for (height, width), padded in wrong:
        words = f"{padded[0]}x{padded[1]}"
        try:
            method(example_images(method, 1, size=(height, width)), present)
        except ValueError as error:
            said = words in str(error)
            require(said, f"{height}x{width} was refused without its size to pad to, {words}: {error}")
        else:
            kept = f"multiples of {multiple} from {method.size_minimum}"
            require(False, f"{height}x{width} was taken, though the method's sizes are {kept}")


@torch.no_grad()
def _check_size_taken(method: Method, size: tuple[int, int]) -> None:
    """Require that a size (H, W) within the method's own rules works."""
    present = torch.ones(1, len(method.modalities), dtype=torch.bool)
    try:
        shape = tuple(method.eval()(example_images(method, 1, size=size), present).logits.shape[-2:])
    except (ValueError, RuntimeError) as error:
        raise AssertionError(
            f"images of {size} pixels failed, expected any size in its rules: {error}"
        ) from error
    require(shape == size, f"logits of images of {size} pixels are {shape}")


def check_state(method: Method, fresh: Method) -> None:
    """Require that a state dict carries a trained method over completely.

    Args:
        method: Trained a little.
        fresh: Newly built from the same options, with other weights.
    """
    fresh.load_state_dict(method.state_dict())
    present = every_pattern(method)
    images = hide(example_images(method, len(present)), present)
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
