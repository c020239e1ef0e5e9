"""Growth is fitted by the exponent of a power law, part by part, and printed with how good the fit is."""

import pytest

from mmbench.errors import CellFailedError, InvalidRecipeError
from mmbench.profiling.power_law import fit_power_law
from mmbench.profiling.report import Case, Costs, Latency, MethodProfile, ProfileReport, Settings, Share, Work
from mmbench.profiling.sweep import (
    ATTENTION,
    WHOLE,
    fit_sweep,
    sweep_method,
    sweep_values,
    take_modalities,
)
from mmbench.reporting.growth import growth_table
from mmbench.reporting.tables import console_text

_SIZES = (128, 192, 256, 384, 512)


def _costs(flops, saved=0):
    work = Work(flops=int(flops), bytes=int(flops) + 1, launches=1)
    return Costs(inference=work, training_forward=work, training_backward=work, saved_bytes=int(saved))


def _report(size, batch_sizes=(1,), timed=True):
    def case(batch):
        products, projections, convolutions = size**4 * batch, 65536 * size**2 * batch, 10 * size**2 * batch
        attention = _costs(products + projections, size**2 * batch)
        parts = (
            Share(name="attention", costs=attention, inference_time=0.5 if timed else None),
            Share(name="encoder", costs=_costs(convolutions), inference_time=0.5 if timed else None),
            Share(name="idle", costs=Costs()),
        )
        ms = size**2 * batch / 1e3
        return Case(
            scenario="full",
            present=(True, True),
            batch_size=batch,
            costs=_costs(products + projections + convolutions),
            parts=parts,
            operators=(Share(name="attention", costs=_costs(products)),),
            latency=Latency(p10_ms=ms, p50_ms=ms, p90_ms=ms, images_per_second=1.0) if timed else None,
        )

    method = MethodProfile(
        name="it",
        title="It",
        parameters_trained=1,
        parameters_inference=1,
        counted_on="dry run",
        cases=tuple(map(case, batch_sizes)),
    )
    settings = Settings(
        dataset="synthetic",
        modalities={"irrg": 3, "ndsm": 1},
        num_classes=6,
        size=size,
        batch_sizes=batch_sizes,
        device="cpu (1 threads)",
        precision="float32",
        threads=1,
        allocator="as it comes",
        torch="2.13.0",
        timed=timed,
    )
    return ProfileReport(settings=settings, methods=(method,))


def _by_name(sweep):
    return {growth.name: growth for growth in sweep.growths}


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0, -1.0])
def test_a_power_law_gives_its_exponent_and_scale_in_any_order(exponent):
    law = fit_power_law([512, 128, 256], [3 * x**exponent for x in (512, 128, 256)])
    assert law.exponent == pytest.approx(exponent)
    assert law.last_exponent == pytest.approx(exponent)
    assert law.scale == pytest.approx(3.0)
    assert law.r2 == pytest.approx(1.0)


def test_a_constant_has_exponent_zero_and_is_fitted_perfectly():
    law = fit_power_law([1, 2, 4], [7.0, 7.0, 7.0])
    assert law.exponent == pytest.approx(0.0)
    assert law.r2 == 1.0


def test_a_sum_of_powers_bends_towards_the_higher_one():
    law = fit_power_law(_SIZES, [x**4 + 65536 * x**2 for x in _SIZES])
    assert 2 < law.exponent < law.last_exponent < 4
    assert law.r2 < 1


def test_noise_lowers_the_explained_share():
    clean = fit_power_law([1, 2, 4, 8], [1, 2, 4, 8])
    noisy = fit_power_law([1, 2, 4, 8], [1, 3, 3, 8])
    assert noisy.r2 < 0.95 < clean.r2


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        ([1], [1], "at least two"),
        ([1, 1], [1, 2], "all different"),
        ([1, 2], [1], "as many"),
        ([1, 2], [0, 1], "> 0"),
        ([1, 2], [1, float("inf")], "finite"),
    ],
)
def test_points_without_a_slope_or_a_logarithm_are_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        fit_power_law(x, y)


def test_attention_products_are_quadratic_in_tokens_and_the_part_that_holds_them_lies_between():
    (sweep,) = fit_sweep("size", {size: _report(size) for size in _SIZES})
    found = _by_name(sweep)
    assert found[ATTENTION].laws["FLOP"].exponent == pytest.approx(4.0)
    assert found["encoder"].laws["FLOP"].exponent == pytest.approx(2.0)
    assert 2.1 < found["attention"].laws["FLOP"].exponent < 3.9
    assert found[WHOLE].laws["latency"].exponent == pytest.approx(2.0)
    assert found["attention"].laws["kept memory"].exponent == pytest.approx(2.0)


def test_a_part_that_does_nothing_and_a_figure_that_was_not_measured_have_no_exponent():
    (sweep,) = fit_sweep("size", {size: _report(size, timed=False) for size in _SIZES})
    found = _by_name(sweep)
    assert found["idle"].laws == {}
    assert "latency" not in found[WHOLE].laws


def test_a_batch_sweep_takes_the_case_of_each_batch_size():
    (sweep,) = fit_sweep("batch", {batch: _report(128, batch_sizes=(batch, 16)) for batch in (1, 2, 4, 8)})
    assert _by_name(sweep)[WHOLE].laws["FLOP"].exponent == pytest.approx(1.0)


def test_the_table_says_both_exponents_the_ends_and_how_to_read_them():
    (sweep,) = fit_sweep("size", {size: _report(size) for size in _SIZES})
    text = console_text(growth_table(sweep, "batch 1, cpu"))
    rows = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert " 4.00 " in rows[ATTENTION]
    assert "→" not in rows[ATTENTION]
    assert "→" in rows["attention"]
    assert "0.268" in rows[ATTENTION]  # 128^4 in GFLOP
    assert "4 is quadratic" in text
    assert rows["idle"].split()[1:] == ["0", "0", *"-" * (len(growth_table(sweep, "").headers) - 3)]


def test_a_bad_fit_is_printed_with_its_share():
    reports = {size: _report(size) for size in (128, 256, 512)}
    method = reports[256].methods[0]
    slow = method.cases[0].model_copy(
        update={"latency": Latency(p10_ms=1, p50_ms=900.0, p90_ms=1, images_per_second=1)}
    )
    reports[256] = reports[256].model_copy(
        update={"methods": (method.model_copy(update={"cases": (slow,)}),)}
    )
    (sweep,) = fit_sweep("size", reports)
    assert "(r² 0." in console_text(growth_table(sweep, ""))


def test_values_that_a_method_does_not_take_are_left_out_and_said():
    def profile_at(value):
        if value in (1, 4):
            raise ValueError("it takes two or three")
        return _report(128 * value)

    (sweep,) = sweep_method("modalities", (1, 2, 3, 4), profile_at)
    assert sweep.values == (2, 3)
    assert "Not taken: 1, 4 (it takes two or three)." in console_text(growth_table(sweep, ""))


def test_a_method_that_takes_one_value_only_is_an_error_with_its_reasons():
    def profile_at(value):
        if value != 2:
            raise InvalidRecipeError("it takes two")
        return _report(128)

    with pytest.raises(CellFailedError, match=r"takes \[2\] of \[1, 2, 3, 4\].*it takes two"):
        sweep_method("modalities", (1, 2, 3, 4), profile_at)


def test_an_unknown_quantity_names_those_there_are():
    with pytest.raises(InvalidRecipeError, match="size, batch, modalities"):
        sweep_values("depth")


def test_more_modalities_than_a_dataset_has_are_stand_ins_like_its_last():
    given = {"irrg": 3, "ndsm": 1}
    assert take_modalities(given, 1) == {"irrg": 3}
    assert take_modalities(given, 4) == {"irrg": 3, "ndsm": 1, "extra3": 1, "extra4": 1}
