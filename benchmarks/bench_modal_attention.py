"""Attention with dropout, and with half of the modalities missing, against torch's own attention.

Compare rows of one run only: `pytest benchmarks/bench_modal_attention.py --benchmark-only`. The ratios of a
group, both sides interleaved, in process time: `python benchmarks/bench_modal_attention.py`.
"""

from __future__ import annotations

import time

import pytest
import torch
from torch.nn import functional as F

from mmbench_kernels import modal_attention

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SHAPE = (2, 8, 2048, 32)
HALF = [[True, False], [False, True]]


def _forms(dtype):
    torch.manual_seed(0)
    q, k, v = (torch.randn(SHAPE, device=DEVICE, dtype=dtype).requires_grad_() for _ in range(3))
    present = torch.tensor(HALF, device=DEVICE)
    keys = present.repeat_interleave(SHAPE[2] // 2, dim=1)[:, None, None, :]

    def steps(attention):
        def forward():
            with torch.no_grad():
                return attention()

        def both():
            out = attention()
            return torch.autograd.grad(out, (q, k, v), torch.ones_like(out))

        return {"forward": forward, "forward and backward": both}

    textbook = F.scaled_dot_product_attention
    return {
        "dropout 0.1": {
            "operator": steps(lambda: modal_attention(q, k, v, dropout_p=0.1)),
            "textbook": steps(lambda: textbook(q, k, v, dropout_p=0.1)),
        },
        "half of the keys": {
            "operator": steps(lambda: modal_attention(q, k, v, present=present, mode="skip_keys")),
            "textbook": steps(lambda: textbook(q, k, v, attn_mask=keys)),
        },
        "half of the tokens": {
            "operator": steps(lambda: modal_attention(q, k, v, present=present, mode="skip_tokens")),
            "textbook": steps(lambda: textbook(q, k, v, attn_mask=keys)),
        },
    }


CASES = ["dropout 0.1", "half of the keys", "half of the tokens"]
STEPS = ["forward", "forward and backward"]


@pytest.mark.parametrize("form", ["operator", "textbook"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("case", CASES)
def test_modal_attention(benchmark, case, step, form):
    benchmark.group = f"modal_attention 2x8x2048x32, {case}, {step}"
    run = _forms(torch.float32)[case][form][step]

    def timed():
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()

    benchmark.pedantic(timed, rounds=5, warmup_rounds=1)


def print_ratios(rounds=3):
    """Print milliseconds, the smallest of interleaved rounds, and textbook over operator."""
    for dtype in (torch.float32, torch.bfloat16):
        forms = _forms(dtype)
        for case in CASES:
            for step in STEPS:
                best = dict.fromkeys(forms[case], float("inf"))
                for _ in range(rounds):
                    for form, steps in forms[case].items():
                        start = time.process_time()
                        steps[step]()
                        best[form] = min(best[form], time.process_time() - start)
                ratio = best["textbook"] / best["operator"]
                times = ", ".join(f"{form} {1e3 * seconds:.0f} ms" for form, seconds in best.items())
                print(f"{dtype} {case}, {step}: {times}, {ratio:.2f}x")


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} threads")
    print_ratios()
