"""Bytes, FLOP and launches of GEMMNet on a GPU, counted without one: `python benchmarks/counted_gains.py`.

A dry run on shapes: no image has values, no kernel is launched, no time is measured. The published side is
the released behaviour written out straightforwardly, each of torch's operators a launch; ours is the same
preset, its operators by Triton's kernels, of which each launch counts and each tensor that it takes once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from straightforward import Straightforward
from torch import Tensor

from mmbench.profiling.batches import profiling_batch
from mmbench.profiling.counting import Counter, Tally
from mmbench.profiling.dry_run import DryRun
from mmbench.reporting.tables import Table, console_text
from mmbench.scenarios.scenario import Scenario, whole_modality_scenarios
from mmbench_baselines.gemmnet import GEMMNet
from mmbench_baselines.method import Batch
from mmbench_kernels._availability import gpu_path

MODALITIES = {"irrg": 3, "ndsm": 1}
NUM_CLASSES = 5
ROWS = {"inference": 1, "training step": 2}
QUANTITIES: Mapping[str, Callable[[Tally], float]] = {
    "GFLOP": lambda tally: tally.flops / 1e9,
    "GB": lambda tally: tally.bytes / 1e9,
    "launches": lambda tally: tally.launches,
}


def count(scenario: Scenario, mode: str, size: int, *, published: bool) -> Counter:
    """Count one forward in evaluation, or one training step without its optimiser.

    Args:
        scenario: Of the batch.
        mode: A key of ROWS.
        size: Height and width of the images, pixels.
        published: Which side.
    """
    torch.manual_seed(0)
    method = GEMMNet(MODALITIES, NUM_CLASSES, preset="released")
    side = Straightforward(method) if published else method
    method.train(mode != "inference")
    dry_run, counter = DryRun(), Counter()
    with gpu_path(), dry_run:
        batch = profiling_batch(method, scenario, ROWS[mode], size, torch.device("cpu"), dry_run.hollow)
        if mode == "inference":
            with torch.no_grad(), counter.during("inference"):
                side.predict(batch.images, batch.present) if published else _predict(method, batch)
        else:
            with counter.during("training_forward"):
                loss = torch.stack(list(side.training_step(batch).values())).sum()
            with counter.during("training_backward"):
                torch.autograd.backward(loss)
    return counter


def _predict(method: GEMMNet, batch: Batch) -> Tensor:
    return method(batch.images, batch.present).logits.softmax(1)


def gains_table(size: int) -> Table:
    """Return a row for each mode and scenario, and one for the mean of each mode's shares."""
    rows = []
    for mode in ROWS:
        shares: dict[str, list[float]] = {name: [] for name in QUANTITIES}
        for scenario in whole_modality_scenarios(list(MODALITIES)):
            counters = [count(scenario, mode, size, published=side) for side in (True, False)]
            if not rows:
                left = _launches_by_kind(counters[1])
            before, after = (counter.total() for counter in counters)
            cells = []
            for name, of in QUANTITIES.items():
                shares[name].append(of(after) / of(before))
                cells.append(f"{_short(of(before))} → {_short(of(after))} ({shares[name][-1]:.0%})")
            rows.append((mode, scenario.name, *cells))
        means = (f"{sum(each) / len(each):.0%}" for each in shares.values())
        rows.append((mode, "mean of the shares", *means))
    return Table(
        f"GEMMNet released, published form → ours on the GPU path, {size} x {size}, float32",
        ("", "scenario", *QUANTITIES),
        tuple(rows),
        (
            "Counted in a dry run on shapes, batch 1 at inference and 2 in training; no time was measured.",
            f"Ours still launches, at inference with every modality: {left}.",
        ),
    )


def _launches_by_kind(counter: Counter) -> str:
    """Return "kind number, …" of all kinds of operators, most launches first."""
    launches = {kind: counter.total(kind=kind).launches for kind in counter.kinds}
    ordered = sorted(launches.items(), key=lambda item: -item[1])
    return ", ".join(f"{kind} {number}" for kind, number in ordered)


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    print(console_text(gains_table(parser.parse_args().size)))


if __name__ == "__main__":
    main()
