"""The hash that drops: its definition in Python's integers, and whether its entries look like chance."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mmbench_kernels.ops._counter_hash import drop_count, keep, keep_scale, line_hashes

WORD = 2**32
TOKENS = 1024


def mix(x: int) -> int:
    x = (x ^ (x >> 16)) * 0x85EBCA6B % WORD
    x = (x ^ (x >> 13)) * 0xC2B2AE35 % WORD
    return x ^ (x >> 16)


def absorb(state: int, word: int) -> int:
    return mix(((state ^ word) + 0x9E3779B9) % WORD)


def kept(seed: int, b: int, h: int, i: int, j: int, dropout_p: float) -> bool:
    state, seed = 0, seed % 2**64
    for word in (seed % WORD, seed >> 32, b, h):
        state = absorb(state, word)
    row, column = absorb(absorb(state, 1), i), absorb(absorb(state, 2), j)
    product = (row ^ column) * 0x9E3779B1 % WORD
    signed = product - WORD if product >= WORD // 2 else product
    return signed >= round(dropout_p * WORD) - WORD // 2


def kept_matrix(seed: int, sample: int, heads: int, tokens: int, dropout_p: float) -> Tensor:
    rows, columns = line_hashes(torch.tensor(seed), sample, heads, tokens)
    return keep(rows, columns, dropout_p, out=torch.empty((heads, tokens, tokens), dtype=torch.int32))


@pytest.mark.parametrize("seed", [0, 1, 2**40 + 7, 2**63 - 1, -3])
def test_every_entry_is_the_documented_function_of_its_place(seed: int) -> None:
    for dropout_p in (0.1, 0.75):
        for sample in (0, 5):
            matrix = kept_matrix(seed, sample, 2, 19, dropout_p)
            expected = [
                [[int(kept(seed, sample, h, i, j, dropout_p)) for j in range(19)] for i in range(19)]
                for h in range(2)
            ]
            assert matrix.tolist() == expected


def test_a_part_of_the_lines_gives_that_part_of_the_matrix() -> None:
    rows, columns = line_hashes(torch.tensor(11), 3, 2, 50)
    out = torch.empty((2, 7, 20), dtype=torch.int32)
    part = keep(rows[:, 10:17], columns[:, 30:], 0.3, out=out)
    assert torch.equal(part, kept_matrix(11, 3, 2, 50, 0.3)[:, 10:17, 30:])
    assert not torch.equal(rows, columns)


@pytest.mark.parametrize("dropout_p", [1e-300, 1e-9, 0.1, 0.5, 1 - 1e-12])
def test_kept_entries_are_divided_by_the_probability_of_the_threshold(dropout_p: float) -> None:
    assert 0 <= drop_count(dropout_p) < WORD
    assert keep_scale(dropout_p) == WORD / (WORD - drop_count(dropout_p))
    assert drop_count(dropout_p) == min(round(dropout_p * WORD), WORD - 1)


@pytest.fixture(params=[(0, 0.1), (2**40 + 7, 0.1), (-3, 0.5)], ids=str)
def deviations(request: pytest.FixtureRequest) -> Tensor:
    """Entries of four heads, (h, N, N), shifted to mean 0 and scaled to variance 1 if they are chance."""
    seed, dropout_p = request.param
    matrix = kept_matrix(seed, 0, 4, TOKENS, dropout_p).double()
    return (matrix - (1 - dropout_p)) / math.sqrt(dropout_p * (1 - dropout_p))


def test_the_rate_is_the_asked_one(deviations: Tensor) -> None:
    assert abs(float(deviations.sum()) / math.sqrt(deviations.numel())) < 4


def test_neighbours_are_not_correlated(deviations: Tensor) -> None:
    for lag in (1, 2, 3, 8, 64):
        for product in (
            deviations[:, :, :-lag] * deviations[:, :, lag:],
            deviations[:, :-lag] * deviations[:, lag:],
        ):
            assert abs(float(product.sum()) / math.sqrt(product.numel())) < 4.5, lag


def test_rows_and_columns_vary_as_chance_does(deviations: Tensor) -> None:
    for axis in (1, 2):
        sums = deviations.sum(axis).flatten() / math.sqrt(TOKENS)
        deviation_of_variance = math.sqrt(2 / len(sums))
        assert abs(float(sums.var()) - 1) < 5 * deviation_of_variance


def test_pairs_of_lines_are_nearly_independent(deviations: Tensor) -> None:
    off_diagonal = ~torch.eye(TOKENS, dtype=torch.bool)
    for head in deviations:
        for lines in (head, head.T):
            products = (lines @ lines.T)[off_diagonal] / math.sqrt(TOKENS)
            # One multiplication leaves some pairs alike: 2 % more variance at 0.1, 11 % at 0.5, 0 for chance.
            assert float(products.square().mean()) < 1.2
            assert float((products.abs() > 6).double().mean()) < 3e-3
    across = deviations[0] @ deviations[1].T / math.sqrt(TOKENS)
    assert abs(float(across.square().mean()) - 1) < 0.02
    assert float(across.abs().max()) < 7


def test_samples_heads_and_seeds_have_their_own_entries() -> None:
    matrices = [kept_matrix(seed, sample, 2, 64, 0.5) for seed in (0, 1, 2**32) for sample in (0, 1)]
    heads = [head for matrix in matrices for head in matrix]
    for first in range(len(heads)):
        for second in range(first):
            agree = float((heads[first] == heads[second]).double().mean())
            assert abs(agree - 0.5) < 5 * 0.5 / 64
