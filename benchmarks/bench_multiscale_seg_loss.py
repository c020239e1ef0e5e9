"""The losses of GEMMNet's seven heads against the form in which they were published.

Compare rows of one run only: `pytest benchmarks/bench_multiscale_seg_loss.py --benchmark-only`. The ratios,
all forms interleaved, in process time of one thread: `python benchmarks/bench_multiscale_seg_loss.py`.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from mmbench_kernels import multiscale_seg_loss

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SIZE = 512
CLAMP = (0.005, 1.0)
RELEASED = {"interp": "prob", "clamp": CLAMP, "dice_classes": "all", "align_corners": True}
DEFAULT = {"interp": "logit", "clamp": None, "dice_classes": "present", "align_corners": True}


def published(heads, target):
    """Softmax, enlarge, then once over the classes for cross-entropy and once for Dice, head by head."""
    num_classes = heads[0].shape[1]
    truth = F.one_hot(target, num_classes).permute(0, 3, 1, 2).float()
    total = 0.0
    for head in heads:
        p = torch.softmax(head, dim=1)
        if p.shape[-2:] != target.shape[-2:]:
            p = F.interpolate(p, size=target.shape[-2:], mode="bilinear", align_corners=True)
        entropy = 0.0
        for k in range(num_classes):
            weight = 1 - truth[:, k].sum(dim=(1, 2)) / truth.sum(dim=(1, 2, 3))
            entropy = entropy - weight[:, None, None] * truth[:, k] * torch.log(p[:, k].clamp(*CLAMP))
        score = 0.0
        for k in range(num_classes):
            overlap, both = (p[:, k] * truth[:, k]).sum(), p[:, k].sum() + truth[:, k].sum()
            score = score + 2 * overlap / (both + 1e-7)
        total = total + entropy.mean() + 1 - score / num_classes
    return total


def _steps(num_classes):
    torch.manual_seed(0)
    # Fused, two modalities, and the scales 1/2 to 1/16, at batch size 2.
    sizes = [SIZE] * 3 + [SIZE >> scale for scale in (1, 2, 3, 4)]
    heads = [torch.randn(2, num_classes, n, n, device=DEVICE, requires_grad=True) for n in sizes]
    target = torch.randint(0, num_classes, (2, SIZE, SIZE), device=DEVICE)
    losses = {
        "published": lambda: published(heads, target),
        "released flags": lambda: multiscale_seg_loss(heads, target, **RELEASED)[0],
        "default flags": lambda: multiscale_seg_loss(heads, target, **DEFAULT)[0],
    }
    expected, found = losses["published"](), losses["released flags"]()
    assert torch.allclose(expected, found, rtol=1e-5)
    pairs = zip(torch.autograd.grad(expected, heads), torch.autograd.grad(found, heads), strict=True)
    assert all((a - b).norm() < 1e-4 * a.norm() for a, b in pairs)

    def step(loss):
        def run():
            torch.autograd.grad(loss(), heads)
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()  # the work is timed, not its queueing

        return run

    return {name: step(loss) for name, loss in losses.items()}


@pytest.mark.parametrize("num_classes", [5, 6])
@pytest.mark.parametrize("form", ["published", "released flags", "default flags"])
def test_multiscale_seg_loss(benchmark, form, num_classes):
    benchmark.group = f"multiscale_seg_loss, 7 heads 2x{num_classes}x{SIZE}x{SIZE}, forward and backward"
    benchmark.pedantic(_steps(num_classes)[form], rounds=5, warmup_rounds=1)


def main():
    """Print the ratios of one interleaved run."""
    torch.set_num_threads(1)
    for num_classes in (5, 6):
        steps = _steps(num_classes)
        best = dict.fromkeys(steps, float("inf"))
        for _ in range(5):
            for name, step in steps.items():
                start = time.process_time()
                step()
                best[name] = min(best[name], time.process_time() - start)
        for name, seconds in best.items():
            ratio = best["published"] / seconds
            print(f"{num_classes} classes, {name}: {1000 * seconds:.0f} ms, {ratio:.2f}x")


if __name__ == "__main__":
    main()
