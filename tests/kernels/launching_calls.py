"""Calls of every operator, forward and backward, that differ in what Triton's launcher looks at.

It looks at whether a size or a stride is 1, or divisible by 16, and whether a pointer is None or aligned.
Axes: B batch, C channel, H W pixels, H head, N token, D width of a head, M modality, K class.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmbench.profiling.batches import profiling_batch
from mmbench.profiling.counting import Counter
from mmbench.profiling.dry_run import DryRun
from mmbench.scenarios.scenario import whole_modality_scenarios
from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.method import Method
from mmbench_baselines.mmformer import MMFormer
from mmbench_kernels import modal_attention, modal_fuse, multiscale_seg_loss, norm_act_pad
from mmbench_kernels.ops.norm_act_pad import Up2

HALF, BRAIN = torch.float16, torch.bfloat16
BOTH = (80, 90)
"""Two generations; what is compiled for the first one only is most of the calls."""

MODALITIES = {"irrg": 3, "ndsm": 1}


@dataclass(frozen=True)
class Call:
    """One call of an operator, or of a whole model.

    Attributes:
        operator: Its name.
        case: What is special about the call.
        run: Makes it, forward and backward.
        capabilities: Of the GPUs that it is compiled for.
    """

    operator: str
    case: str
    run: Callable[[], object]
    capabilities: Sequence[int] = (80,)


def dense(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(shape).to(dtype).requires_grad_()


def channels_last(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    batch, channels, *sides = shape
    return dense(batch, *sides, channels, dtype=dtype).detach().movedim(-1, 1).requires_grad_()


def window(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the inside of a larger map, which is aligned to nothing."""
    return F.pad(torch.rand(shape).to(dtype), (1, 1, 1, 1))[:, :, 1:-1, 1:-1].requires_grad_()


def expanded(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return one number everywhere: every stride is 0."""
    return torch.ones((), dtype=dtype).expand(shape).detach().requires_grad_()


Grad = Callable[..., Tensor]


def back(y: Tensor, grad: Grad = expanded) -> None:
    """Differentiate y, whose gradient lies in memory as `grad` makes it."""
    y.backward(grad(*y.shape, dtype=y.dtype).detach())


def operator_calls() -> Iterator[Call]:
    """Yield the calls of operators."""
    yield from norm_act_pad_calls()
    yield from modal_fuse_calls()
    yield from modal_attention_calls()
    yield from multiscale_seg_loss_calls()


def norm_act_pad_calls() -> Iterator[Call]:
    """Yield calls whose maps, affine arguments, borders and gradients differ; statistics by turns."""
    half_sources = [
        Up2(dense(2, 16, 8, 8, dtype=HALF)),
        channels_last(2, 4, 16, 16, dtype=HALF),
    ]
    zeros = {"pad_mode": "zeros"}
    # What is special, the sources, which of weight and bias there are, the gradient, options.
    cases: list[tuple[str, list[Any], str, Grad, dict[str, Any]]] = [
        ("all sizes 1", [dense(1, 1, 1, 1)], "", expanded, {"pad": 0}),
        ("one pixel in zeros", [dense(1, 1, 1, 1)], "weight bias", dense, zeros),
        ("one pixel of many channels", [channels_last(2, 16, 1, 1)], "bias", expanded, {"pad": 0}),
        ("one row", [dense(1, 3, 1, 7)], "weight", dense, zeros),
        ("one column", [channels_last(2, 3, 7, 1, dtype=HALF)], "", expanded, zeros),
        ("2 x 2 reflected", [dense(1, 2, 2, 2, dtype=BRAIN)], "", channels_last, {}),
        ("one channel", [dense(1, 1, 16, 32)], "", window, {}),
        ("a window", [window(2, 8, 16, 32, dtype=HALF)], "weight bias", expanded, {}),
        ("an expanded map", [expanded(2, 16, 16, 16)], "", dense, {}),
        ("channels last", [channels_last(2, 16, 16, 16)], "", channels_last, {}),
        ("one pixel doubled", [Up2(dense(1, 1, 1, 1))], "", expanded, {}),
        ("one row doubled", [Up2(channels_last(1, 3, 1, 5)), dense(1, 2, 2, 10)], "weight", expanded, {}),
        ("one column doubled", [dense(1, 1, 10, 2), Up2(dense(1, 2, 5, 1))], "", expanded, {"pad": 0}),
        ("sources of mixed formats", half_sources, "weight bias", expanded, {}),
    ]
    for (case, sources, given, grad, options), groups in itertools.product(cases, ("sample", "channel")):
        # All of the smallest, and each other with one kind of statistics.
        if "all sizes 1" in case or (len(case) % 2 == 0) == (groups == "sample"):

            def run(
                sources: Any = sources,
                given: str = given,
                grad: Grad = grad,
                options: Any = options,
                groups: Any = groups,
            ) -> None:
                maps = [each.x if isinstance(each, Up2) else each for each in sources]
                total = sum(each.shape[1] for each in maps)
                affine = {name: dense(total, dtype=maps[0].dtype) for name in given.split()}
                back(norm_act_pad(sources, groups=groups, **affine, **options), grad)

            capabilities = BOTH if case == "channels last" else (80,)
            yield Call("norm_act_pad", f"{case}, groups {groups}", run, capabilities)


def modal_fuse_calls() -> Iterator[Call]:
    """Yield calls whose maps, presence and statistics differ."""
    half = {"dtype": HALF}
    four = [
        None,
        window(2, 8, 16, 16, **half),
        channels_last(2, 8, 16, 16, **half),
        expanded(2, 8, 16, 16, **half),
    ]
    row = channels_last(2, 3, 1, 5, dtype=BRAIN)
    # What is special, the maps, which are present, what a missing one means, outputs, the gradient.
    cases: list[tuple[str, list[Any], list[bool] | None, Any, int, Grad]] = [
        ("all sizes 1", [dense(1, 1, 1, 1)], None, "zero", 1, expanded),
        ("all sizes 1 and a missing map", [dense(1, 1, 1, 1), None], [True, False], "drop", 1, expanded),
        ("a missing map", [dense(1, 3, 4, 5), None], [True, False], "zero", 5, dense),
        ("channels last of one row", [row, row], [True, True], "drop", 5, expanded),
        ("one column of one channel", [dense(1, 1, 16, 1)] * 2, None, "zero", 5, channels_last),
        ("four modalities", four, [False, True, True, True], "drop", 16, window),
    ]
    for (case, maps, present, missing, outputs, grad), groups in itertools.product(
        cases, ("sample", "channel")
    ):

        def run(
            maps: Any = maps,
            present: Any = present,
            missing: Any = missing,
            outputs: int = outputs,
            grad: Grad = grad,
            groups: Any = groups,
        ) -> None:
            first = next(each for each in maps if each is not None)
            weight = dense(
                outputs, sum(2 if each is None else each.shape[1] for each in maps), dtype=first.dtype
            )
            rows = None if present is None else torch.tensor([present] * len(first))
            bias = dense(outputs, dtype=first.dtype) if groups == "channel" else None
            back(modal_fuse(maps, weight, bias, present=rows, groups=groups, missing=missing), grad)

        yield Call(
            "modal_fuse",
            f"{case}, groups {groups}",
            run,
            BOTH if case == "a missing map" and groups == "channel" else (80,),
        )


def modal_attention_calls() -> Iterator[Call]:
    """Yield calls whose modes, dropout, logarithm and strides differ; strides by turns."""
    others = itertools.cycle(
        [
            ("odd sizes", lambda: packed(dense(2, 6, 3, 3, 5)), False, dense),
            ("aligned", lambda: [dense(2, 2, 32, 32, dtype=BRAIN) for _ in range(3)], True, dense),
            ("expanded", lambda: [expanded(1, 2, 16, 16, dtype=HALF) for _ in range(3)], False, expanded),
            ("one head, packed", lambda: packed(dense(1, 4, 3, 1, 16, dtype=HALF)), True, expanded),
        ]
    )
    smallest = ("all sizes 1", lambda: [dense(1, 1, 1, 1) for _ in range(3)])
    for mode, dropout in itertools.product(("full", "skip_keys", "skip_tokens"), (0.0, 0.1)):
        with_lse_too = (dropout == 0) == (mode == "skip_keys")  # with dropout and without
        for case, make, with_lse, grad in ((*smallest, with_lse_too, expanded), next(others)):

            def run(
                make: Any = make,
                with_lse: bool = with_lse,
                grad: Grad = grad,
                mode: Any = mode,
                dropout: float = dropout,
            ) -> None:
                q, k, v = make()
                modalities = 2 if q.shape[2] % 2 == 0 else 1
                present = None if mode == "full" else torch.ones(len(q), modalities, dtype=torch.bool)
                out, lse = modal_attention(
                    q, k, v, present=present, mode=mode, dropout_p=dropout, return_lse=True
                )
                results = (out, lse) if with_lse else (out,)
                grads = [grad(*each.shape, dtype=each.dtype).detach() for each in results]
                torch.autograd.backward(results, grads)

            words = f"{case}, {mode}, dropout {dropout}{', logarithm' if with_lse else ''}"
            yield Call("modal_attention", words, run, BOTH if case == "aligned" and mode != "full" else (80,))


def packed(qkv: Tensor) -> list[Tensor]:
    """Return (B, H, N, D) queries, keys and values that share (B, N, 3, H, D)."""
    return list(qkv.permute(2, 0, 3, 1, 4).unbind(0))


def multiscale_seg_loss_calls() -> Iterator[Call]:
    """Yield calls whose forms, heads and targets differ."""
    row = [dense(1, 2, 1, 4, dtype=HALF), dense(1, 2, 1, 8, dtype=HALF)]
    column = [channels_last(2, 3, 4, 1), window(2, 3, 7, 1)]
    aligned = [dense(2, 16, 32, 32), expanded(2, 16, 16, 16), dense(2, 16, 2, 2)]
    # What is special, the heads, height and width of the target, and its dtype.
    cases: list[tuple[str, list[Tensor], tuple[int, int], torch.dtype]] = [
        ("all sizes 1", [dense(1, 1, 1, 1)], (1, 1), torch.int64),
        ("1 x 1 heads", [dense(1, 5, 1, 1)], (16, 16), torch.int64),
        ("one row", row, (1, 8), torch.uint8),
        ("one column", column, (7, 1), torch.int64),
        ("finer heads", [dense(1, 8, 3, 3, dtype=BRAIN)], (2, 1), torch.uint8),
        ("aligned", aligned, (32, 32), torch.int64),
    ]
    forms = list(itertools.product(("logit", "prob"), (None, (0.05, 0.6)), (False, True)))
    for (case, heads, size, kind), (interp, clamp, corners) in itertools.product(cases, forms):

        def run(
            heads: Any = heads,
            size: Any = size,
            kind: torch.dtype = kind,
            interp: Any = interp,
            clamp: Any = clamp,
            corners: bool = corners,
        ) -> None:
            target = torch.zeros(len(heads[0]), *size, dtype=kind)
            multiscale_seg_loss(heads, target, interp=interp, clamp=clamp, align_corners=corners)[
                0
            ].backward()

        words = f"{case}, {interp}, clamp {clamp}, {'' if corners else 'not '}aligned corners"
        on_both = case == "1 x 1 heads" and clamp is None and not corners
        yield Call("multiscale_seg_loss", words, run, BOTH if on_both else (80,))


def model_calls() -> Iterator[Call]:
    """Yield inference and a training step of whole models at batch 1, 512 x 512 pixels, on shapes alone."""
    models: dict[str, Callable[[], Method]] = {
        "GEMMNet released": lambda: GEMMNet(MODALITIES, 5, preset="released"),
        "mmFormer": lambda: MMFormer(MODALITIES, 5),
        "mmFormer without absent tokens": lambda: MMFormer(MODALITIES, 5, tokens="skip"),
    }
    for (name, build), mixed in itertools.product(models.items(), (False, True)):
        yield Call(
            name, "bfloat16" if mixed else "float32", lambda build=build, mixed=mixed: step(build(), mixed)
        )


def step(method: Method, mixed: bool) -> None:
    """Run a method forward in evaluation, and one training step without its optimiser."""
    dry_run, counter = DryRun(), Counter()
    complete = whole_modality_scenarios(list(MODALITIES))[0]
    with dry_run:
        batch = profiling_batch(method, complete, 1, 512, torch.device("cpu"), dry_run.hollow)
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            with torch.no_grad(), counter.during("inference"):
                method.eval()(batch.images, batch.present)
            with counter.during("training_forward"):
                loss = torch.stack(list(method.train().training_step(batch).values())).sum()
        with counter.during("training_backward"):
            torch.autograd.backward(loss)
