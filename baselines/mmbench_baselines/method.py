"""The contract of a method: what it is given, what it returns, what the harness may ask of it.

Axes: B batch, M modality, C channel, H W pixels, K class.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmbench_baselines.blocks.presence import each_has_one
from mmbench_baselines.optim import OptimizerParams, TrainingParams, build_optimizer


@dataclass(frozen=True)
class Batch:
    """What a method trains on.

    Attributes:
        images: modality -> (B, C, H, W) float32 in [-1, 1], 0 is the training mean. Absent slots hold
            whatever the harness put there and carry no information.
        present: (B, M) bool, columns in the order of the method's modalities; at least one per row.
        target: (B, H, W) int64 class index, or the method's ignore_index.
        complete: The images before hiding; None unless the method declares `sees_hidden_in_training`.
    """

    images: Mapping[str, Tensor]
    present: Tensor
    target: Tensor
    complete: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Output:
    """What a method returns.

    Attributes:
        logits: (B, K, H, W) float, unnormalised class scores at the size of the input.
        aux: Whatever `loss` needs besides, by name.
        imputed: What a method that generates missing images segmented in their place, modality ->
            (B, C, H, W): real where present, generated where not. Empty if it generates none.
    """

    logits: Tensor
    aux: dict[str, Any] = field(default_factory=dict)
    imputed: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module, abc.ABC):
    """A segmentation method for any subset of its modalities; one file (or package) holds one subclass.

    The harness owns the loop, the budget, hiding, checkpoints and metrics; a method never sees the dataset.
    The constructor's keyword arguments are the method's options; a recipe may set them and the record
    stores them.
    """

    title: ClassVar[str]
    paper: ClassVar[str]
    source: ClassVar[str]
    """The authors' code and its commit, or that there is none."""
    licence: ClassVar[str] = ""
    """Of the source; "" is not stated. So too for the next two."""
    parity: ClassVar[str] = ""
    """What was found equal to the source, and how exactly."""
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Named sets of options beside the default one: `name:variant` runs the method with them."""
    beware: ClassVar[str] = ""
    """What a table must say beside its row: what cannot be compared as it stands, or what it cannot see."""
    deviations: ClassVar[tuple[str, ...]] = ()
    """What differs from the source, and why."""
    paper_training: ClassVar[TrainingParams] = TrainingParams()
    """The optimiser, schedule and accumulation of the paper: what `recipe: paper` uses."""
    size_multiple: ClassVar[int] = 1
    """Height and width of an input must be multiples of this."""
    keeps_patterns: ClassVar[bool] = False
    """Whether `patterns` hold under every recipe: for controls, which are defined by what training hides."""
    size_minimum: ClassVar[int] = 1
    """Smallest height and width of an input, pixels."""

    def __init__(self, modalities: Mapping[str, int], num_classes: int, *, ignore_index: int = 255) -> None:
        """Keep the facts that every method needs.

        Args:
            modalities: Name -> number of channels; the order is the order of the columns of `present`.
            num_classes: K.
            ignore_index: Target value of pixels that drop out of every loss term.

        Raises:
            ValueError: If there is no modality, or fewer than two classes.
        """
        super().__init__()
        if not modalities:
            raise ValueError("modalities is empty: a method needs at least one, as in {'irrg': 3}")
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}: segmentation needs at least 2")
        self.modalities = dict(modalities)
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @classmethod
    def variant_options(cls, variant: str) -> Mapping[str, Any] | None:
        """Return the options of a variant, None where there is none of that name."""
        return cls.variants.get(variant)

    @property
    def sees_hidden_in_training(self) -> bool:
        """Whether `training_step` reads `batch.complete`; may depend on the options."""
        return False

    @abc.abstractmethod
    def forward(self, images: Mapping[str, Tensor], present: Tensor) -> Output:
        """Segment a batch in which each sample has its own modalities.

        Args:
            images: modality -> (B, C, H, W) float in [-1, 1].
            present: (B, M) bool. The logits must not depend on the content of an absent slot.
        """

    @abc.abstractmethod
    def loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Return the named, weighted scalar terms; their sum is minimised. May not read `batch.complete`."""

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Return the loss terms of one batch; override where training needs more than forward and loss."""
        return self.loss(self(batch.images, batch.present), batch)

    def configure_optimizers(self, params: OptimizerParams) -> list[torch.optim.Optimizer]:
        """Return the optimisers, each of which the harness steps once per step.

        Args:
            params: The recipe's choice, or the paper's (`paper_training.optimizer`) under `recipe: paper`.
        """
        return [build_optimizer(self.parameters(), params)]

    def patterns(self, step: int, total_steps: int) -> dict[tuple[bool, ...], float]:
        """What the paper's training hides at this step: presence pattern -> probability (sum 1).

        The default is the protocol's: uniform over the non-empty subsets.
        """
        return uniform_patterns(len(self.modalities))

    def parts(self) -> dict[str, list[nn.Module]]:
        """Name the parts for the profiler (encoders, fusion, heads …); the default is the children."""
        return {name: [module] for name, module in self.named_children()}

    def check_input(self, images: Mapping[str, Tensor], present: Tensor) -> None:
        """Refuse a batch this method cannot take.

        Raises:
            ValueError: Naming what came, what was expected and, for sizes, what to pad to.
        """
        if list(images) != list(self.modalities):
            raise ValueError(f"images has {list(images)}, expected {list(self.modalities)} in this order")
        batch_size, *_ = next(iter(images.values())).shape
        height, width = next(iter(images.values())).shape[-2:]
        for name, channels in self.modalities.items():
            expected = (batch_size, channels, height, width)
            if tuple(images[name].shape) != expected:
                raise ValueError(f"images[{name!r}] is {tuple(images[name].shape)}, expected {expected}")
        if tuple(present.shape) != (batch_size, len(self.modalities)) or present.dtype != torch.bool:
            raise ValueError(
                f"present is {tuple(present.shape)} {present.dtype}, "
                f"expected {(batch_size, len(self.modalities))} torch.bool"
            )
        if not each_has_one(present):
            raise ValueError("present has a row without any modality; each sample needs at least one")
        multiple, minimum = self.size_multiple, self.size_minimum
        padded = tuple(max(minimum, -(-side // multiple) * multiple) for side in (height, width))
        if (height, width) != padded:
            raise ValueError(
                f"{type(self).__name__} takes sizes that are multiples of {multiple} and at least {minimum}; "
                f"got {height}x{width}, pad to {padded[0]}x{padded[1]}"
            )


def uniform_patterns(count: int) -> dict[tuple[bool, ...], float]:
    """Return every non-empty presence pattern of `count` modalities with equal probability."""
    every = [p for p in itertools.product((True, False), repeat=count) if any(p)]
    return {pattern: 1 / len(every) for pattern in every}
