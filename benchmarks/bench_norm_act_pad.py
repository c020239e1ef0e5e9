"""The block of norm, leaky ReLU, reflection and 3x3 convolution, with the operator and as it was published.

`pytest benchmarks/bench_norm_act_pad.py --benchmark-only` times them one after the other. The ratios of a
group, both sides interleaved, in process time: `OMP_NUM_THREADS=1 python benchmarks/bench_norm_act_pad.py`.
"""

from __future__ import annotations

import sys
import time
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmbench_kernels import norm_act_pad

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPES = [(2, 8, 512), (2, 16, 256), (2, 64, 64), (2, 8, 128), (2, 128, 16)]
FORMS = ["operator", "published"]
STEPS = ["forward", "forward and backward"]


class Published(nn.Module):
    """The layers of the released code: a norm for volumes where the statistics are a sample's."""

    def __init__(self, channels, groups):
        super().__init__()
        norm = nn.InstanceNorm3d if groups == "sample" else nn.InstanceNorm2d
        self.norm, self.rectifier = norm(channels), nn.LeakyReLU(0.2, inplace=True)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.conv(self.rectifier(self.norm(x)))


def _steps(shape, groups):
    """Return the steps of both forms, each in the layout in which a network of them hands maps on."""
    torch.manual_seed(0)
    batch, channels, side = shape
    published = Published(channels, groups).to(DEVICE)
    weight, bias = published.conv.weight, published.conv.bias
    x = torch.randn(batch, channels, side, side, device=DEVICE)
    seed = torch.randn_like(x)

    def operator(x):
        return F.conv2d(norm_act_pad(x, groups=groups), weight, bias)

    def steps(block, memory_format):
        leaf = x.to(memory_format=memory_format).requires_grad_()
        gradient = seed.to(memory_format=memory_format)

        def forward():
            with torch.no_grad():
                return block(leaf)

        return {
            "forward": forward,
            "forward and backward": lambda: torch.autograd.grad(block(leaf), (leaf, weight, bias), gradient),
        }

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
@pytest.mark.parametrize("groups", ["sample", "channel"])
@pytest.mark.parametrize("shape", SHAPES[:2], ids=str)
def test_norm_act_pad(benchmark, shape, groups, step, form):
    batch, channels, side = shape
    benchmark.group = f"norm, act, pad, conv {batch}x{channels}x{side}x{side}, {groups} norm, {step}"
    run = _steps(shape, groups)[form][step]

    def timed():
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=5, warmup_rounds=1)


def print_ratios(rounds=15):
    """Print milliseconds, the smallest of interleaved rounds, and published over operator."""
    for shape in SHAPES:
        for groups in ("sample", "channel"):
            forms = _steps(shape, groups)
            for step in STEPS:
                best = dict.fromkeys(FORMS, float("inf"))
                for _ in range(rounds):
                    for form in FORMS:
                        start = time.process_time()
                        forms[form][step]()
                        best[form] = min(best[form], time.process_time() - start)
                ratio = best["published"] / best["operator"]
                times = ", ".join(f"{form} {1e3 * seconds:.2f} ms" for form, seconds in best.items())
                sys.stdout.write(f"{shape} {groups}, {step}: {times}, ratio {ratio:.2f}\n")


if __name__ == "__main__":
    print_ratios()
