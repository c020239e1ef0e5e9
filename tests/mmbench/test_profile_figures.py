"""Figures of a profile show every part with its value, say how it was taken, and leave nothing behind."""

import math
import sys

import pytest
import torch

from mmbench.errors import InvalidRecipeError
from mmbench.profiling.figure_style import COLOURS, save_figure, short, unit_of
from mmbench.profiling.figures import draw_costs
from mmbench.profiling.report import Case, Costs, Latency, MethodProfile, Settings, Share, Work
from mmbench.profiling.roofline import Roofs, measure_roofs
from mmbench.profiling.roofline_figure import draw_roofline

_FLOPS = {"encoder": 4_000_000_000, "fusion_decoder": 12_000_000_000, "generator": 0, "other": 0}
_ROOFS = Roofs(100e9, 20e9, 1536, 128, "float32", "cpu (1 threads)")


def _work(flops):
    return Work(flops=flops, bytes=1_000_000_000, launches=1)


def _case(scenario, batch_size, timed):
    flops = _FLOPS | ({"generator": 7_000_000_000} if scenario != "full" else {})
    parts = tuple(
        Share(
            name=name,
            costs=Costs(inference=_work(f), training_forward=_work(f), saved_bytes=2**20 * (3 if f else 0)),
            inference_time=0.25 if timed else None,
            training_time=0.25 if timed else None,
        )
        for name, f in flops.items()
    )
    whole = Costs(inference=Work(flops=sum(flops.values()), bytes=4_000_000_000, launches=4))
    latency = Latency(p10_ms=390, p50_ms=400, p90_ms=410, images_per_second=2.5)
    return Case(
        scenario=scenario,
        present=(True, scenario == "full"),
        batch_size=batch_size,
        costs=whole,
        parts=parts,
        latency=latency if timed else None,
        step_seconds=2.0 if timed else None,
    )


def _method(scenarios=("full", "irrg"), timed=True, batch_sizes=(1,)):
    return MethodProfile(
        name="it",
        title="It",
        options={"transformer": "off"},
        parameters_trained=1,
        parameters_inference=1,
        counted_on="dry run",
        cases=tuple(_case(s, b, timed) for b in batch_sizes for s in scenarios),
    )


_SETTINGS = Settings(
    dataset="synthetic",
    modalities={"irrg": 3, "ndsm": 1},
    num_classes=6,
    size=512,
    batch_sizes=(1,),
    device="cpu (1 threads)",
    precision="float32",
    threads=1,
    allocator="as it comes",
    torch="2.13.0",
    timed=True,
)


def _words(figure):
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return inside + [text.get_text() for text in figure.texts]


def _widths(axes):
    return [bar.get_width() for bar in axes.patches if bar.get_height() < 0.08]


def test_every_part_has_a_row_and_every_scenario_a_bar_in_every_panel():
    figure = draw_costs(_method(), _SETTINGS, 1)
    assert len(figure.axes) == 6
    for name in ("encoder", "fusion decoder", "generator", "other (in no part)"):
        assert name in _words(figure)
    for axes in figure.axes:
        assert len(_widths(axes)) == 8
    assert _widths(figure.axes[1]) == [4.0, 4.0, 12.0, 12.0, 0.0, 7.0, 0.0, 0.0]


def test_time_is_the_latency_shared_out_and_totals_stand_above_in_their_unit():
    figure = draw_costs(_method(), _SETTINGS, 1)
    assert _widths(figure.axes[0]) == [pytest.approx(100.0)] * 8
    words = _words(figure)
    assert {"full 400 ms", "irrg 400 ms", "full 16.0 GFLOP", "irrg 23.0 GFLOP", "full 2000 ms"} <= set(words)


def test_axes_begin_at_zero_and_end_beyond_the_longest_bar():
    for axes in draw_costs(_method(), _SETTINGS, 1).axes:
        low, high = axes.get_xlim()
        assert low == 0
        assert high > max(_widths(axes))


def test_the_heading_says_what_was_profiled_and_how():
    heading = " ".join(text.get_text() for text in draw_costs(_method(), _SETTINGS, 1).texts)
    for word in ("It", "512 × 512", "batch 1", "cpu (1 threads)", "float32", "transformer=off"):
        assert word in heading


def test_what_was_not_timed_has_no_panel_and_one_phase_is_narrower():
    both = draw_costs(_method(timed=False), _SETTINGS, 1)
    one = draw_costs(_method(timed=False), _SETTINGS, 1, ["inference"])
    assert (len(both.axes), len(one.axes)) == (4, 2)
    assert one.get_figwidth() < 4 < both.get_figwidth() < 7.3
    assert not any("time" in word for word in _words(both))


def test_text_stays_inside_the_figure():
    figure = draw_costs(_method(), _SETTINGS, 1)
    renderer = figure.canvas.get_renderer()
    width = figure.bbox.width
    for text in [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text.get_text()
        assert box.x1 <= width + 1, text.get_text()


def test_of_many_scenarios_full_and_the_extremes_are_drawn_and_said():
    figure = draw_costs(_method(["full", *"abcdef"]), _SETTINGS, 1)
    assert "of 7 drawn" in " ".join(_words(figure)).replace("\n", " ")
    assert len(_widths(figure.axes[0])) <= 4 * len(COLOURS)


def test_a_batch_size_that_was_not_profiled_is_an_error_that_names_those_that_were():
    with pytest.raises(ValueError, match=r"batch size 3; at \[1, 8\]"):
        draw_costs(_method(batch_sizes=(1, 8)), _SETTINGS, 3)


def test_figures_are_saved_by_suffix_twice_the_same_and_without_pyplot(tmp_path):
    figure = draw_costs(_method(), _SETTINGS, 1)
    for name, magic in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        save_figure(figure, tmp_path / "new" / name)
        content = (tmp_path / "new" / name).read_bytes()
        assert content.startswith(magic)
        save_figure(draw_costs(_method(), _SETTINGS, 1), tmp_path / name)
        assert (tmp_path / name).read_bytes() == content
    assert "matplotlib.pyplot" not in sys.modules
    with pytest.raises(InvalidRecipeError, match=r"\.png, \.svg, \.pdf"):
        save_figure(figure, tmp_path / "a.bmp")


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (0.004, "<0.01"), (1.234, "1.23"), (9.996, "10.0"), (99.96, "100")]
)
def test_numbers_have_three_digits(value, words):
    assert short(value) == words


def test_a_unit_is_the_largest_that_fits():
    units = (("MB", 1e6), ("GB", 1e9))
    assert [unit_of(units, value)[0] for value in (10.0, 5e8, 1e9, 1e12)] == ["MB", "MB", "GB", "GB"]


def test_a_roofline_has_a_point_for_each_part_with_flop_and_names_the_others():
    figure = draw_roofline(_method(), _SETTINGS, 1, _ROOFS)
    (axes,) = figure.axes
    points = {tuple(round(float(v), 3) for v in dots.get_offsets()[0]) for dots in axes.collections}
    assert points == {(4.0, 40.0), (12.0, 120.0), (7.0, 70.0), (5.75, 57.5)}  # the whole is that of irrg
    words = " ".join(_words(figure)).replace("\n", " ")
    assert {"encoder", "fusion decoder", "generator (irrg)", "whole (irrg)"} <= set(_words(figure))
    assert "not drawn: other" in words
    assert {"50 %", "120 %", "70 %"} <= set(_words(figure))  # of min(100, 20 · intensity) GFLOP/s


def test_a_roofline_states_its_roofs_and_bends_at_the_ridge():
    figure = draw_roofline(_method(), _SETTINGS, 1, _ROOFS)
    words = " ".join(_words(figure)).replace("\n", " ")
    for said in ("matrix product 100 GFLOP/s", "memory 20.0 GB/s", "1536²", "128 MiB", "cpu (1 threads)"):
        assert said in words
    roof = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 3)
    assert roof.get_xdata()[1] == pytest.approx(5.0)
    assert list(roof.get_ydata()[1:]) == [pytest.approx(100.0)] * 2


def test_a_roofline_without_times_is_an_error():
    with pytest.raises(ValueError, match="profile it with times"):
        draw_roofline(_method(timed=False), _SETTINGS, 1, _ROOFS)


def test_roofs_are_measured_and_said():
    roofs = measure_roofs(torch.device("cpu"), matrix_side=128, array_mib=1, repeats=2)
    assert 1e6 < roofs.flops_per_second < 1e14
    assert 1e6 < roofs.bytes_per_second < 1e14
    assert math.isclose(roofs.attainable(roofs.ridge), roofs.flops_per_second)
    assert roofs.attainable(roofs.ridge / 2) == pytest.approx(roofs.flops_per_second / 2)
    assert "128² matrix product" in roofs.words
    with pytest.raises(ValueError, match="repeats 0"):
        measure_roofs(torch.device("cpu"), repeats=0)
