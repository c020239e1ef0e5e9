"""One side of an interleaved measurement: a process that does what it is asked, one JSON line a time.

`bench_speed.py` starts several, since the allocator's setting is a process's, and never asks two at once.
A request names a `form` of a method and what to do with it; the answer is what was measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import torch
from published_forms import published_forms
from straightforward import Straightforward
from torch import Tensor

from mmbench.allocator import keep_freed_memory
from mmbench.registry import find
from mmbench.scenarios.scenario import hide, whole_modality_scenarios
from mmbench_baselines.blocks.presence import assume_pattern
from mmbench_baselines.method import Batch, Method
from mmbench_baselines.optim import OptimizerParams

MODALITIES = {"irrg": 3, "ndsm": 1}
NUM_CLASSES = 5
CHECK_SIDE = 128
SCENARIOS = {s.name: s for s in whole_modality_scenarios(list(MODALITIES))}

Inference = Callable[[Any, Tensor], Tensor]


@cache
def method_of(name: str, options: str, use: str) -> Method:
    """Return a method with the weights that every process draws; one a use, for training changes them."""
    torch.manual_seed(0)
    built: Method = find("method", name)(MODALITIES, NUM_CLASSES, **json.loads(options))
    return built


@cache
def batch_of(scenario: str, rows: int, side: int) -> Batch:
    """Return the batch that every process draws."""
    generator = torch.Generator().manual_seed(rows)
    complete = {
        n: torch.rand(rows, c, side, side, generator=generator) * 2 - 1 for n, c in MODALITIES.items()
    }
    present = SCENARIOS[scenario].rows(rows, torch.device("cpu"))
    target = torch.randint(0, NUM_CLASSES, (rows, side, side), generator=generator)
    return Batch(hide(complete, present), present, target, complete)


@contextlib.contextmanager
def computing(form: str, dtype: str) -> Iterator[None]:
    """Compute in a dtype, and with the operators of a form."""
    with contextlib.ExitStack() as stack:
        if form == "published":
            stack.enter_context(published_forms())
        if dtype != "float32":
            stack.enter_context(torch.autocast("cpu", getattr(torch, dtype)))
        yield


@cache
def inference_of(form: str, name: str, options: str, scenario: str, dtype: str) -> Inference:
    """Return (images, present) -> probabilities; a compiled one is a graph of one pattern and dtype."""
    method = method_of(name, options, "inference").eval()
    if form == "straightforward":
        return Straightforward(method).predict
    if form != "compiled":
        return lambda images, present: method(images, present).logits.softmax(1)
    pattern = tuple(batch_of(scenario, 1, 32).present[0].tolist())
    graph = torch.compile(
        lambda images, present: method(images, present).logits.softmax(1), fullgraph=True, dynamic=False
    )

    def run(images: Any, present: Tensor) -> Tensor:
        with assume_pattern(pattern):
            return graph(images, present)

    return run


def infer(ask: dict[str, Any]) -> Tensor:
    """Run one inference."""
    run = inference_of(ask["form"], ask["method"], ask["options"], ask["scenario"], ask["dtype"])
    batch = batch_of(ask["scenario"], ask["rows"], ask["side"])
    with torch.inference_mode(), computing(ask["form"], ask["dtype"]):
        return run(batch.images, batch.present)


@cache
def optimizers_of(name: str, options: str) -> list[torch.optim.Optimizer]:
    return method_of(name, options, "training").configure_optimizers(OptimizerParams())


def train(ask: dict[str, Any]) -> dict[str, Tensor]:
    """Take one training step; return its terms."""
    method = method_of(ask["method"], ask["options"], "training").train()
    side = Straightforward(method) if ask["form"] == "straightforward" else method
    batch = batch_of(ask["scenario"], ask["rows"], ask["side"])
    with computing(ask["form"], ask["dtype"]):
        terms = side.training_step(batch)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for optimizer in optimizers_of(ask["method"], ask["options"]):
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return terms


def measure(ask: dict[str, Any]) -> dict[str, float]:
    """Time one inference or one training step."""
    work = infer if ask["mode"] == "inference" else train
    started = time.perf_counter()
    work(ask)
    return {"seconds": time.perf_counter() - started}


def saved_memory(ask: dict[str, Any]) -> dict[str, float]:
    """Take one training step; return the MiB that its forward pass keeps for backward, parameters aside."""
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        train(ask)
    return {"saved_mib": sum(storages.values()) / 2**20}


def probabilities(ask: dict[str, Any]) -> dict[str, str]:
    """Write the probabilities of an inference to a file."""
    np.save(ask["file"], infer(ask).float().numpy())
    return {"file": ask["file"]}


def terms(ask: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the loss terms and the gradient norms of a small training step without dropout."""
    options = json.loads(ask["options"]) | ({"dropout": 0.0} if ask["has_dropout"] else {})
    method = method_of(ask["method"], json.dumps(options), "check").train()
    side = Straightforward(method) if ask["form"] == "straightforward" else method
    with computing(ask["form"], "float32"):
        found = side.training_step(batch_of(ask["scenario"], 2, CHECK_SIDE))
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    norms = {n: float(p.grad.norm()) for n, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return {"terms": {n: float(t) for n, t in found.items()}, "gradients": norms}


TASKS = {task.__name__: task for task in (measure, saved_memory, probabilities, terms)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--allocator", choices=("as it comes", "kept"), required=True)
    parser.add_argument("--threads", type=int, required=True)
    chosen = parser.parse_args()
    if chosen.allocator == "kept" and not keep_freed_memory():
        raise SystemExit("the allocator of this C library cannot be told to keep memory")
    torch.set_num_threads(chosen.threads)
    for line in sys.stdin:
        ask = json.loads(line)
        print(json.dumps(TASKS[ask.pop("task")](ask)), flush=True)


if __name__ == "__main__":
    main()
