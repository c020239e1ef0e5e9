"""Figures of a report show every number they are given, look the same twice, and leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from mmbench.datasets.synthetic import Synthetic
from mmbench.predictions import Predictions
from mmbench.profiling.figure_style import save_figure
from mmbench.reporting.figures.canvas import (
    COLUMN_INCHES,
    PAGE_INCHES,
    SCENARIO_MARKS,
    method_mark,
    shorten,
    spread_apart,
    text_inches,
)
from mmbench.reporting.figures.classes import draw_classes
from mmbench.reporting.figures.curves import Curve, draw_curves, expected_curve, expected_rates
from mmbench.reporting.figures.disputes import DisputedTile, draw_disputes
from mmbench.reporting.figures.panels import MOST_METHODS, draw_panels
from mmbench.reporting.figures.pictures import (
    BOTH_ALIKE,
    BOTH_DIFFER,
    BOTH_RIGHT,
    ONLY_FIRST,
    ONLY_SECOND,
    UNCOUNTED,
    VERDICT_COLOURS,
    class_picture,
    dispute,
    error_picture,
    modality_picture,
    most_disputed,
    verdicts,
)
from mmbench.reporting.figures.ranks import bootstrap_ranks, draw_ranks
from mmbench.reporting.figures.scores import Interval, ScoreRow, draw_scores
from mmbench.reporting.figures.tile_views import Legend, TileView, read_view
from mmbench.reporting.figures.tradeoff import CostPoint, draw_tradeoff

ROOT = Path(__file__).parents[2]
_SCENARIOS = ("full", "irrg", "ndsm")
_PALETTE = ((255, 255, 255), (0, 0, 255), (255, 0, 0))
_SEEN_BY_COLOUR_BLIND = (
    ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
)
"""Linear red, green, blue to what is seen without red cones and without green ones (Machado et al., 2009)."""
_NAMES = ("one_method", "another (width=3)", "$x_1^{2$", "<script>")
"""Among them what mathematical text, were it read as that, would stumble over."""


def _scores():
    rows = [
        ScoreRow(
            name,
            {
                s: Interval(60.0 - 7 * i - 11 * j, 55.0 - 7 * i - 11 * j, 66.0)
                for j, s in enumerate(_SCENARIOS)
            },
        )
        for i, name in enumerate(_NAMES)
    ]
    return draw_scores(rows, _SCENARIOS, title="mIoU", below="of a test")


def _curves():
    scores = [{"full": 80.0 - 9 * i, "irrg": 50.0, "ndsm": 40.0} for i in range(len(_NAMES))]
    curves = [expected_curve(n, s, ["irrg", "ndsm"]) for n, s in zip(_NAMES, scores, strict=True)]
    return draw_curves(curves, expected_rates(), title="E(p)", below="of a test", marked=(0.05, 0.5))


def _ranks(groups=()):
    draws = np.random.default_rng(0).normal([3, 2, 2, 0], 0.5, (400, 4))
    return draw_ranks(_NAMES, bootstrap_ranks(draws), title="ranks", below="of a test", groups=groups)


def _tradeoff():
    points = [
        CostPoint(name, cost, score, score - 2, score + 2)
        for name, cost, score in zip(_NAMES, (1.0, 4.0, 4.0, 4.2), (40.0, 55.0, 50.0, 50.2), strict=True)
    ]
    return draw_tradeoff(points, title="cost", below="of a test")


def _classes():
    scores = {s: {n: [50.0 + i, 9.96, None] for i, n in enumerate(_NAMES)} for s in _SCENARIOS}
    return draw_classes(
        scores, ("tall_house", "car", "clutter"), title="IoU", below="of a test", unscored=("clutter",)
    )


def _predictions(seed, size=40):
    rng, found = np.random.default_rng(seed), Predictions()
    for scenario in _SCENARIOS:
        for tile in ("a", "b"):
            found.add(tile, scenario, rng.integers(0, 3, (size, size + 10), dtype=np.uint8))
    return found


def _view(tile, with_truth):
    if not with_truth:
        return TileView(tile)
    rng = np.random.default_rng(9)
    target = rng.integers(0, 3, (40, 50), dtype=np.uint8)
    target[0] = 255
    height = rng.normal(0, 5, (1, 40, 50)).astype(np.float32)
    return TileView(tile, {"irrg": rng.integers(0, 255, (3, 40, 50), dtype=np.uint8), "ndsm": height}, target)


_LEGEND = Legend(("ground", "tall_house", "clutter"), _PALETTE)


def _panels(with_truth=True, methods=2):
    named = {f"method_{number}": _predictions(number) for number in range(methods)}
    view = _view("a", with_truth)
    return draw_panels(view, named, _SCENARIOS, _LEGEND, title="tile a", below="of a test")


def _disputes(scenarios=_SCENARIOS, with_truth=True):
    tiles = [DisputedTile(_view(tile, with_truth), f"tile {tile}") for tile in "ab"]
    pair = (_predictions(0), _predictions(1))
    words = "A: method_0; B: method_1"
    return draw_disputes(tiles, pair, scenarios, _LEGEND, title="where", below=words)


DRAWERS = {
    "scores": _scores,
    "curves": _curves,
    "ranks": lambda: _ranks([_NAMES[:2], (_NAMES[0], _NAMES[3])]),
    "tradeoff": _tradeoff,
    "classes": _classes,
    "panels": _panels,
    "bare_panels": lambda: _panels(with_truth=False),
    "disputes_panels": _disputes,
    "disputes_panels_of_one_scenario": lambda: _disputes(("irrg",)),
    "bare_disputes_panels": lambda: _disputes(with_truth=False),
}

_WRITE = """
import sys, importlib.util
from pathlib import Path
spec = importlib.util.spec_from_file_location("figures", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
for name, draw in module.DRAWERS.items():
    for suffix in ("png", "pdf"):
        module.save_figure(draw(), Path(sys.argv[2]) / f"{name}.{suffix}")
assert "matplotlib.pyplot" not in sys.modules, "pyplot was imported"
"""


def _words(figure):
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return inside + [text.get_text() for text in figure.texts]


def _boxes(figure):
    """Every piece of text with its place on the canvas, pixels."""
    figure.canvas.draw()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
            ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            texts += [label for place, label in ticks if low <= place <= high]  # others are not drawn
    renderer = figure.canvas.get_renderer()
    shown = [text for text in texts if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent(renderer), text.get_rotation()) for text in shown]


def test_the_same_data_give_the_same_bytes_in_another_process_and_without_pyplot(tmp_path):
    written = []
    for number, seed in enumerate("01"):
        folder = tmp_path / str(number)
        paths = os.pathsep.join(str(ROOT / part) for part in ("", "kernels", "baselines"))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, "-c", _WRITE, __file__, str(folder)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        written.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert len(written[0]) == 2 * len(DRAWERS)
    assert written[0] == written[1]
    for name, content in written[0].items():
        assert b"CreationDate" not in content, name
        assert b"/Type3" not in content, name  # publishers refuse such fonts


@pytest.mark.parametrize("name", DRAWERS)
def test_no_text_leaves_the_figure_and_no_two_upright_texts_overlap(name):
    figure = DRAWERS[name]()
    width, height = figure.canvas.get_width_height()
    assert figure.get_figwidth() <= PAGE_INCHES + 1e-6
    boxes = _boxes(figure)
    for words, box, _ in boxes:
        assert box.x0 >= -0.5, words
        assert box.y0 >= -0.5, words
        assert box.x1 <= width + 0.5, words
        assert box.y1 <= height + 0.5, words
    upright = [(words, box) for words, box, rotation in boxes if rotation == 0]
    for index, (words, box) in enumerate(upright):
        for other_words, other in upright[index + 1 :]:
            across = min(box.x1, other.x1) - max(box.x0, other.x0)
            down = min(box.y1, other.y1) - max(box.y0, other.y0)
            # Boxes have room for letters above and below the line that these words do not use.
            assert across <= 1 or down <= 0.35 * min(box.height, other.height), (words, other_words)


@pytest.mark.parametrize("name", DRAWERS)
def test_names_are_written_as_they_are_whatever_they_hold(name):
    words = " ".join(_words(DRAWERS[name]()))
    for label in _NAMES if "panels" not in name else ("method_0", "method_1"):
        assert label in words


def test_a_file_has_the_printed_size_at_300_dots_an_inch(tmp_path):
    figure = _scores()
    save_figure(figure, tmp_path / "it.png")
    header = (tmp_path / "it.png").read_bytes()[16:24]
    assert int.from_bytes(header[:4], "big") == round(figure.get_figwidth() * 300)
    assert figure.get_figwidth() == COLUMN_INCHES


def test_every_score_is_a_mark_at_its_value_with_its_interval():
    (axes,) = _scores().axes
    marks = [line for line in axes.lines if line.get_linestyle() == "None" and len(line.get_xdata()) == 1]
    inside = [line for line in marks if line.get_transform() == axes.transData]
    assert sorted(line.get_xdata()[0] for line in inside) == sorted(
        60.0 - 7 * i - 11 * j for i in range(4) for j in range(3)
    )
    intervals = [tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2]
    assert (55.0, 66.0) in intervals
    assert len(intervals) == 12
    low, high = axes.get_xlim()
    assert low < 12.0 < 66.0 < high


def test_a_score_that_is_undefined_has_no_mark_and_one_without_bounds_no_line():
    rows = [ScoreRow("a", {"full": Interval(50.0)}), ScoreRow("b", {"irrg": Interval(40.0, 30.0, 50.0)})]
    (axes,) = draw_scores(rows, ("full", "irrg"), title="t", below="b").axes
    inside = [line for line in axes.lines if line.get_transform() == axes.transData]
    assert sorted(tuple(line.get_xdata()) for line in inside) == [(30.0, 50.0), (40.0,), (50.0,)]


def test_more_scenarios_than_marks_go_into_panels_with_one_axis():
    names = [f"s{number}" for number in range(7)]
    rows = [ScoreRow("a", {name: Interval(10.0 * i) for i, name in enumerate(names)})]
    figure = draw_scores(rows, names, title="t", below="b")
    assert len(figure.axes) == 2
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert set(names) <= set(_words(figure))


def test_series_differ_without_their_colours_and_as_grey():
    assert len({mark.marker for mark in SCENARIO_MARKS}) == len(SCENARIO_MARKS)
    marks = [method_mark(index) for index in range(44)]
    assert len({(mark.marker, str(mark.line)) for mark in marks}) == len(marks)
    grey = [np.dot(to_rgb(mark.colour), (0.299, 0.587, 0.114)) for mark in SCENARIO_MARKS]
    assert max(grey) < 0.75  # none fades into white


def test_the_expected_score_begins_with_all_modalities_and_falls_to_what_is_left():
    curve = expected_curve("it", {"full": 80.0, "irrg": 60.0, "ndsm": 40.0}, ["irrg", "ndsm"])
    rates = expected_rates()
    assert curve.values[0] == 80.0
    for rate, value in zip(rates, curve.values, strict=True):  # the protocol's formula for two modalities
        assert value == pytest.approx(((1 - rate) * 80 + rate * (60 + 40)) / (1 + rate))
    assert expected_curve("it", {"full": 80.0, "irrg": 60.0}, ["irrg", "ndsm"]) is None


def test_curves_are_marked_at_the_rates_asked_for_and_their_bands_drawn():
    curve = Curve("it", (3.0, 2.0, 1.0), (2.0, 1.0, 0.0), (4.0, 3.0, 2.0))
    (axes,) = draw_curves([curve], (0.0, 0.5, 1.0), title="t", below="b", marked=(0.5,)).axes
    assert axes.lines[0].get_markevery() == [1]
    assert len(axes.collections) == 1
    with pytest.raises(ValueError, match="it has not 2 values"):
        draw_curves([curve], (0.0, 1.0), title="t", below="b")


def test_labels_keep_their_distance_their_order_and_their_bounds():
    places = spread_apart([5.0, 5.0, 5.1, 0.0], 1.0, 0.0, 6.0)
    assert sorted(places) == pytest.approx([0.0, 4.0, 5.0, 6.0])
    assert places[3] < places[0] < places[1] < places[2]
    assert sorted(spread_apart([5.0, 5.0, 5.3, 0.0], 1.0, 0.0, 9.0)) == pytest.approx([0.0, 4.1, 5.1, 6.1])
    assert spread_apart([0.0, 0.0], 1.0, 0.0, 9.0) == [0.0, 1.0]
    assert spread_apart([9.0, 9.0], 1.0, 0.0, 9.0) == [8.0, 9.0]
    assert spread_apart([1.0, 3.0, 2.0], 0.5, 0.0, 9.0) == [1.0, 3.0, 2.0]


def test_names_are_shortened_only_where_they_do_not_fit():
    assert shorten("method", 2.0) == "method"
    short = shorten("a_method_of_many_words", 0.5)
    assert short.endswith("…")
    assert text_inches(short) <= 0.5
    assert text_inches("method", "bold") > text_inches("method")


def test_ranks_are_within_a_draw_and_ties_share_theirs():
    ranks = bootstrap_ranks(np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 5.0]]))
    assert ranks.tolist() == [[1.0, 3.0, 2.0], [2.5, 2.5, 1.0]]


def test_a_rank_figure_orders_methods_and_shows_how_often_each_rank_is_had():
    ranks = np.array([[2.0, 1.0]] * 3 + [[1.0, 2.0]])
    (axes,) = draw_ranks(["second", "first"], ranks, title="t", below="b").axes
    names = [text.get_text() for text in axes.texts]
    assert names == ["first", "second"]
    bars = {
        (round(b.get_x() + b.get_width() / 2), round(b.get_y())): -b.get_height() for b in axes.patches[-4:]
    }
    assert bars == pytest.approx({(1, 0): 0.63, (2, 0): 0.21, (1, 1): 0.21, (2, 1): 0.63})
    with pytest.raises(ValueError, match="expected \\(draws, labels\\)"):
        draw_ranks(["one"], ranks, title="t", below="b")


def test_a_group_s_bar_is_thick_only_beside_its_members():
    (axes,) = _ranks([(_NAMES[0], _NAMES[3])]).axes
    thick = [line for line in axes.lines if line.get_linewidth() == 2.2]
    assert [tuple(np.round(line.get_ydata(), 1)) for line in thick] == [(-0.3, 0.3), (2.7, 3.3)]


def test_the_front_joins_what_no_other_beats_and_the_rest_is_hollow():
    (axes,) = _tradeoff().axes
    front = axes.lines[0]
    assert list(zip(*front.get_data(), strict=True)) == [(1.0, 40.0), (4.0, 55.0)]
    points = {tuple(line.get_xydata()[0]): line for line in axes.lines if line.get_marker() == "o"}
    hollow = {place for place, line in points.items() if line.get_color() == "white"}
    assert hollow == {(4.0, 50.0), (4.2, 50.2)}
    with pytest.raises(ValueError, match="expected costs above 0"):
        draw_tradeoff([CostPoint("it", 0.0, 50.0)], title="t", below="b")


def test_a_class_map_prints_every_number_and_the_best_of_a_scored_column_bold():
    figure = _classes()
    assert len(figure.axes) == 3
    cells = figure.axes[0].texts
    assert [text.get_text() for text in cells].count("10.0") == 4
    assert [text.get_text() for text in cells].count("–") == 4
    bold = {text.get_text() for text in cells if text.get_weight() == "bold"} - {"full"}
    assert bold == {"53.0", "10.0"}
    assert {"tall house", "car", "(clutter)"} <= set(_words(figure))
    with pytest.raises(ValueError, match="expected 2 a method"):
        draw_classes({"full": {"it": [1.0]}}, ("a", "b"), title="t", below="b")


def test_text_in_a_class_map_stands_out_from_its_cell():
    scores = {"full": {str(value): [float(value)] for value in range(0, 101, 4)}}
    (axes,) = draw_classes(scores, ("a",), title="t", below="b").axes
    cells = [text for text in axes.texts if text.get_text().endswith(".0")]
    for text, box in zip(cells, axes.patches, strict=True):
        light = sorted((_luminance(text.get_color()), _luminance(box.get_facecolor())))
        assert (light[1] + 0.05) / (light[0] + 0.05) > 4, text.get_text()


def _luminance(colour):
    """Relative luminance as the WCAG define it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_pictures_show_classes_errors_and_modalities():
    classes = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    assert class_picture(classes, _PALETTE, 255).tolist() == [
        [[255, 255, 255], [0, 0, 255]],
        [[255, 0, 0], [0, 0, 0]],
    ]
    target = np.array([[0, 0], [2, 255]], dtype=np.uint8)
    errors, share = error_picture(classes, target, 255)
    assert share == pytest.approx(2 / 3)
    assert errors[..., 0].tolist() == [[222, 20], [222, 255]]
    assert error_picture(classes, np.full_like(target, 255), 255)[1] is None
    optical = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    assert np.array_equal(modality_picture(optical), np.moveaxis(optical[:3], 0, -1))
    height = modality_picture(np.array([[[-3.0, 0.0, 3.0]]], dtype=np.float32))
    assert height[0, :, 0].tolist() == [0, 128, 255]
    assert modality_picture(np.full((1, 2, 2), 7.0)).max() == 0  # flat, and no division by zero


def test_the_tile_on_which_methods_differ_most_comes_first():
    def predictions(wrong_in):
        found = Predictions()
        for tile, share in wrong_in.items():
            classes = np.zeros((10, 10), dtype=np.uint8)
            classes[:share] = 1
            found.add(tile, "full", classes)
        return found

    methods = [predictions({"a": 1, "b": 5, "c": 0}), predictions({"a": 0, "b": 1, "c": 0})]
    assert dispute(methods, "b", ["full"]) == pytest.approx(0.4)
    assert most_disputed(methods, ["full"], 2) == ["b", "a"]
    three = [*methods, predictions({"a": 0, "b": 1, "c": 0})]
    assert dispute(three, "b", ["full"]) == pytest.approx(0.4 * 2 / 3)  # two of the three pairs
    assert most_disputed(methods[:1], ["full"], 2) == ["a", "b"]


def test_panels_hold_inputs_truth_and_two_pictures_a_case_and_only_predictions_without_the_data():
    whole, bare = _panels(), _panels(with_truth=False)
    assert len(whole.axes) == 3 + 2 * 2 * 3
    assert len(bare.axes) == 2 * 3
    words = _words(whole)
    assert {"irrg", "truth", "given all", "given irrg", "tall house", "right", "wrong"} <= set(words)
    assert sum(text.endswith("% right") for text in words) == 6
    assert not any("right" in text for text in _words(bare))
    with pytest.raises(ValueError, match=f"expected 1 to {MOST_METHODS} methods"):
        _panels(methods=MOST_METHODS + 1)


def test_who_is_right_is_worked_by_hand():
    target = np.array([[0, 0, 0, 0, 0, 255]], dtype=np.uint8)
    first = np.array([[0, 0, 1, 1, 1, 0]], dtype=np.uint8)
    second = np.array([[0, 1, 0, 2, 1, 1]], dtype=np.uint8)
    found = verdicts(first, second, target, 255)
    assert found.tolist() == [[BOTH_RIGHT, ONLY_FIRST, ONLY_SECOND, BOTH_DIFFER, BOTH_ALIKE, UNCOUNTED]]


@pytest.mark.parametrize("seen", [np.eye(3), *_SEEN_BY_COLOUR_BLIND], ids=["all", "no red", "no green"])
def test_who_is_right_is_told_as_grey_and_by_colour_blind_readers(seen):
    linear = (np.array(VERDICT_COLOURS) / 255) ** 2.2
    shown = 255 * np.clip(linear @ np.transpose(seen), 0, 1) ** (1 / 2.2)
    grey = np.sort(shown @ (0.299, 0.587, 0.114))
    assert np.diff(grey).min() > 20


def test_disputes_hold_inputs_once_a_tile_and_three_pictures_a_scenario():
    whole, one, bare = _disputes(), _disputes(("irrg",)), _disputes(with_truth=False)
    assert len(whole.axes) == 2 * (3 + 3 * 3)
    assert len(one.axes) == 2 * (3 + 3)
    assert len(bare.axes) == 2 * 3 * 3
    assert {"tile a", "A, given all", "B, given irrg", "who is right", "only A right"} <= set(_words(whole))
    assert {"where they differ", "different classes"} <= set(_words(bare))
    assert not any("right" in text for text in _words(bare))
    with pytest.raises(ValueError, match="expected one of each"):
        _disputes(())


def test_disputes_say_on_how_many_pixels_either_alone_is_right():
    first, second = (_predictions(number).classes["a", "irrg"] for number in (0, 1))
    target = _view("a", with_truth=True).target
    counted = target != 255
    shares = [
        100 * ((one == target) & (other != target))[counted].mean()
        for one, other in ((first, second), (second, first))
    ]
    assert f"only A {shares[0]:.1f} %, B {shares[1]:.1f} %" in _words(_disputes(("irrg",)))
    assert f"{100 * (first != second).mean():.1f} % differ" in _words(_disputes(("irrg",), with_truth=False))


def test_the_widest_panels_fit_a_page():
    assert _panels(methods=MOST_METHODS).get_figwidth() == pytest.approx(PAGE_INCHES)


def test_a_view_is_the_window_of_the_predictions():
    dataset = Synthetic(split="small", tile_size=600)
    predictions = Predictions()
    predictions.add("test_00", "full", np.zeros((600, 600), dtype=np.uint8))
    view = read_view(dataset, predictions, "test_00", "full")
    whole = dataset.read("test_00", labels="full")
    assert np.array_equal(view.target, whole.target[44:556, 44:556])
    assert np.array_equal(view.images["ndsm"], whole.images["ndsm"][:, 44:556, 44:556])
