"""What the operators' benchmarks count, refuse and print, against numbers worked out by hand."""

from __future__ import annotations

import bench_operators
import pytest
import torch
from bench_operators import Expected, Measured
from operator_cases import Case, Inputs, cases
from operator_forms import Form
from operator_table import operator_table

CPU = torch.device("cpu")
CASES = {case.name: case for case in cases(CPU)}


def bytes_of(name, mode):
    case = CASES[name]
    inputs = case.make(CPU)
    forms, _ = case.forms_of(backends=["torch"])
    with torch.no_grad():
        result = forms["ours"].run(*inputs.leaves, **inputs.given).nbytes
    return case.compulsory_bytes(mode, inputs, result)


def test_a_norm_must_read_its_map_once_and_write_it_once():
    name = "norm_act_pad, 2x128x16x16, sample norm, with 3x3 convolution, fp32"
    of_map, of_weights = 4 * 2 * 128 * 16 * 16, 4 * (128 * 128 * 9 + 128)
    assert bytes_of(name, "forward") == 2 * of_map + of_weights
    # Map, weights, gradient of the result; gradients of map and weights.
    assert bytes_of(name, "backward") == 3 * of_map + 2 * of_weights
    assert bytes_of(name, "both") == 4 * of_map + 2 * of_weights
    assert CASES[name].flops("forward") == 2 * 9 * 128 * 128 * 2 * 16 * 16
    assert CASES[name].flops("both") == 3 * CASES[name].flops("forward")


def test_a_missing_map_need_not_be_read_nor_multiplied():
    words = "modal_fuse, 2 of 2x8x128x128, sample norm, {}, fp32"
    whole, half = (words.format(each) for each in ("all present", "one of two missing"))
    assert bytes_of(whole, "forward") - bytes_of(half, "forward") == 4 * 2 * 8 * 128 * 128
    assert CASES[whole].flops("both") == 2 * CASES[half].flops("both") > 0


def test_attention_counts_the_pairs_that_meet():
    full, keys, tokens = (
        CASES[f"modal_attention, 2x8x2048x32, {words}, fp32"].flops("forward")
        for words in ("dropout 0.1", "half of the keys", "half of the tokens")
    )
    assert full == 4 * 32 * 2 * 8 * 2048 * 2048
    assert (keys, tokens) == (full // 2, full // 4)


def small_case():
    def make(device):
        return Inputs((torch.arange(1.0, 5.0, device=device),))

    return Case("double", "4", torch.float32, make, lambda backends: ({}, lambda x: 2 * x))


@pytest.mark.parametrize(
    "wrong", [lambda x: 2.01 * x, lambda x: 2 * x.detach() + 0 * x, lambda x: 2 * x + float("nan") * x]
)
def test_a_wrong_form_is_not_timed_and_a_wrong_one_of_ours_fails(wrong):
    case, measured = small_case(), Measured()
    forms = {"right": Form(lambda x: x + x), "wrong": Form(wrong)}
    right = bench_operators._right_forms(case, forms, lambda x: 2 * x, measured)
    assert list(right) == ["right"]
    assert "double, 4, fp32: wrong is off by" in measured.refused[0]
    with pytest.raises(AssertionError, match="wrong is off by"):
        bench_operators._right_forms(case, {"wrong": Form(wrong, is_ours=True)}, lambda x: 2 * x, measured)


def test_the_definition_is_computed_in_float64():
    case = small_case()
    expected = Expected.of(case, lambda x: 2 * x, case.make(CPU))
    assert expected.result.dtype == torch.float64
    assert expected.gradients[0].equal(2 * expected.seed.double())


def measured_case(ours_ms):
    def form(ms, is_ours=False):
        return {"is_ours": is_ours, "times": {"forward": {"median_ms": ms}}}

    return {
        "machine": "a machine",
        "roofs": {"torch.float32": "roofs measured on a machine"},
        "refused": [],
        "cases": [
            {
                "case": "a case",
                "in_summary": True,
                "bounds": {"forward": {"bytes": 8_000_000, "flops": 6_000_000, "ms": 1.0}},
                "forms": {"published": form(8.0), "library": form(3.0), "ours": form(ours_ms, is_ours=True)},
            }
        ],
    }


def test_the_table_holds_ours_against_the_best_other_form_and_the_bound():
    (row,) = operator_table(measured_case(2.0)).rows
    expected = ("a case", "forward", "ours", "2", "library", "3", "1.50x", "4.00x", "4.0", "3", "50%")
    assert row == expected


@pytest.mark.parametrize(("ours_ms", "is_marked"), [(0.96, False), (0.94, True)])
def test_more_than_the_roofs_allow_is_marked(ours_ms, is_marked):
    (row,) = operator_table(measured_case(ours_ms)).rows
    assert row[-1].endswith("(!)") is is_marked
