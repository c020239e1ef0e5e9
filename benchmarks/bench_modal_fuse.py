"""Fusion of two modalities by norm, leaky ReLU and 1x1 convolution: the operator, and as it was published.

`pytest benchmarks/bench_modal_fuse.py --benchmark-only` times them one after the other. The ratios of a
group, both sides interleaved, in process time: `OMP_NUM_THREADS=1 python benchmarks/bench_modal_fuse.py`.
"""

from __future__ import annotations

import sys
import time
import warnings

import pytest
import torch
from torch import nn

from mmbench_kernels import modal_fuse

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(2, 8, 512), (2, 16, 256), (2, 64, 64), (2, 8, 128)]
PRESENT = {"both present": [[True, True]] * 2, "one of two missing": [[True, False], [False, True]]}
FORMS = ["operator", "published"]
STEPS = ["forward", "forward and backward"]


class Published(nn.Module):
    """Zero what is missing, join, normalise, rectify, mix."""

    def __init__(self, channels, groups):
        super().__init__()
        norm = nn.InstanceNorm3d if groups == "sample" else nn.InstanceNorm2d
        self.norm, self.rectifier = norm(2 * channels), nn.LeakyReLU(0.2, inplace=True)
        self.conv = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, maps, present):
        zeroed = [each * row[:, None, None, None] for each, row in zip(maps, present.unbind(1), strict=True)]
        return self.conv(self.rectifier(self.norm(torch.cat(zeroed, dim=1))))


def _steps(shape, groups, case):
    """Return the steps of both forms, each in the layout in which a network of them hands maps on."""
    torch.manual_seed(0)
    batch, channels, side = shape
    published = Published(channels, groups).to(DEVICE)
    weight, bias = published.conv.weight, published.conv.bias
    present = torch.tensor(PRESENT[case], device=DEVICE)
    maps = [torch.randn(batch, channels, side, side, device=DEVICE) + 0.5 for _ in range(2)]
    seed = torch.randn(batch, channels, side, side, device=DEVICE)

    def operator(maps, present):
        return modal_fuse(maps, weight, bias, present=present, groups=groups)

    def steps(block, memory_format):
        leaves = [each.to(memory_format=memory_format).requires_grad_() for each in maps]
        gradient = seed.to(memory_format=memory_format)

        def forward():
            with torch.no_grad():
                return block(leaves, present)

        def both():
            return torch.autograd.grad(block(leaves, present), (*leaves, weight, bias), gradient)

        return {"forward": forward, "forward and backward": both}

    warnings.filterwarnings("ignore", message="input.s size at dim=. does not match")
    forms = {
        "operator": steps(operator, torch.channels_last),
        "published": steps(published, torch.contiguous_format),
    }
    torch.testing.assert_close(*(forms[form]["forward"]() for form in FORMS), rtol=1e-4, atol=1e-4)
    for one, two in zip(*(forms[form]["forward and backward"]() for form in FORMS), strict=True):
        assert (one - two).norm() <= 1e-4 * two.norm() + 1e-2
    return forms


@pytest.mark.filterwarnings("ignore:input.s size at dim=. does not match")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("case", PRESENT)
@pytest.mark.parametrize("groups", ["sample", "channel"])
def test_modal_fuse(benchmark, groups, case, step, form):
    benchmark.group = f"modal_fuse 2x8x512x512, {groups} norm, {case}, {step}"
    run = _steps(SHAPES[0], groups, case)[form][step]

    def timed():
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=5, warmup_rounds=1)


def print_ratios(rounds=9):
    """Print milliseconds, the smallest of interleaved rounds, and published over operator."""
    for shape in SHAPES:
        for groups in ("sample", "channel"):
            for case in PRESENT:
                forms = _steps(shape, groups, case)
                for step in STEPS:
                    best = dict.fromkeys(FORMS, float("inf"))
                    for _ in range(rounds):
                        for form in FORMS:
                            start = time.process_time()
                            forms[form][step]()
                            best[form] = min(best[form], time.process_time() - start)
                    ratio = best["published"] / best["operator"]
                    times = ", ".join(f"{form} {1e3 * seconds:.2f} ms" for form, seconds in best.items())
                    sys.stdout.write(f"{shape} {groups}, {case}, {step}: {times}, ratio {ratio:.2f}\n")


if __name__ == "__main__":
    print_ratios()
