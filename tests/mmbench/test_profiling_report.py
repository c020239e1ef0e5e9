"""The stored form of a profile, its tables, and the small meters behind it."""

from __future__ import annotations

import json
import platform

import pytest
import torch

from mmbench.errors import DataError
from mmbench.profiling.energy import EnergyMeter
from mmbench.profiling.memory import PeakMemory
from mmbench.profiling.report import (
    Case,
    Costs,
    Latency,
    Memory,
    MethodProfile,
    ProfileReport,
    Settings,
    Share,
    Work,
    read_report,
    write_report,
)
from mmbench.profiling.timing import latency, measure_interleaved
from mmbench.reporting.profile_summary import summary_table
from mmbench.reporting.profile_tables import profile_tables
from mmbench.reporting.tables import RENDERERS


def a_report(*, timed=True):
    costs = Costs(inference=Work(flops=2_000_000_000, bytes=3_000_000_000, launches=7), saved_bytes=2**20)
    case = Case(
        scenario="full",
        present=(True, True),
        batch_size=2,
        costs=costs,
        parts=(Share(name="encoder", costs=costs, inference_time=0.25 if timed else None),),
        latency=Latency(p10_ms=1, p50_ms=2, p90_ms=3, images_per_second=1000) if timed else None,
        memory=Memory(inference_bytes=5 * 2**20) if timed else None,
    )
    settings = Settings(
        dataset="synthetic",
        modalities={"irrg": 3, "ndsm": 1},
        num_classes=6,
        size=64,
        batch_sizes=(2,),
        device="cpu",
        precision="float32",
        threads=1,
        allocator="as it comes",
        torch=torch.__version__,
        timed=timed,
    )
    method = MethodProfile(
        name="a",
        title="A",
        parameters_trained=10,
        parameters_inference=8,
        counted_on="dry run",
        cases=(case,),
    )
    return ProfileReport(settings=settings, methods=(method,))


def test_a_report_survives_json(tmp_path):
    path = tmp_path / "profile.json"
    write_report(path, a_report())
    assert read_report(path) == a_report()
    assert json.loads(path.read_text())["schema_version"] == 1


def test_what_is_no_report_is_refused_with_the_place(tmp_path):
    path = tmp_path / "profile.json"
    path.write_text('{"schema_version": 2}')
    with pytest.raises(DataError, match=r"profile .*profile\.json: schema_version.*--json"):
        read_report(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_report(tmp_path / "none.json")


def test_a_mac_is_two_flop_and_work_adds_up():
    work = Work(flops=6, bytes=4, launches=1)
    assert work.macs == 3
    assert work.flops_per_byte == 1.5
    assert work + work == Work(flops=12, bytes=8, launches=2)


def test_an_unknown_case_is_named():
    with pytest.raises(KeyError, match="no scenario 'irrg' at batch size 2"):
        a_report().methods[0].case("irrg", 2)


def test_the_summary_has_a_row_a_method_and_the_scenarios_side_by_side():
    report = a_report()
    (method,) = report.methods
    other = method.cases[0].model_copy(update={"scenario": "irrg", "latency": None})
    both = method.model_copy(update={"cases": (*method.cases, other)})
    table = summary_table(report.model_copy(update={"methods": (both,)}))
    assert table.headers == (
        "method",
        "params (M)",
        "at inference (M)",
        "GFLOP",
        "ms",
        "step GFLOP",
        "kept MiB",
    )
    assert table.rows == (("a", "0.00", "0.00", "2.0 / 2.0", "2 / -", "0 / 0", "1 / 1"),)
    assert "Under the scenarios full / irrg." in table.notes[0]


def test_the_tables_leave_out_what_was_not_measured():
    timed, counted = (profile_tables(a_report(timed=t))[0] for t in (True, False))
    assert "p50 (ms)" in timed.headers
    assert "p50 (ms)" not in counted.headers
    assert "J" not in timed.headers  # no platform counted energy
    assert dict(zip(timed.headers, timed.rows[0], strict=True))["GFLOP"] == "2.00"
    assert "nothing timed" in " ".join(counted.notes)
    assert "nothing timed" not in " ".join(timed.notes)


@pytest.mark.parametrize("style", sorted(RENDERERS))
def test_the_tables_render_in_every_format(style):
    text = "\n".join(RENDERERS[style](table) for table in profile_tables(a_report()))
    assert "encoder" in text


def test_latency_is_the_deciles_and_images_by_the_median():
    found = latency([0.1 * i for i in range(1, 12)], batch_size=3)
    assert (found.p10_ms, found.p50_ms, found.p90_ms) == pytest.approx((200, 600, 1000))
    assert found.images_per_second == pytest.approx(5)


def test_cases_are_timed_in_turns_after_the_warm_up():
    order = []
    work = {name: (lambda name=name: order.append(name)) for name in "ab"}
    measured = measure_interleaved(work, lambda: None, warm_up=1, repetitions=2)
    assert "".join(order) == "ab" + "abab"
    assert [len(m.seconds) for m in measured.values()] == [2, 2]


def test_energy_is_absent_where_nothing_reports_it(tmp_path):
    assert EnergyMeter(tmp_path / "nowhere").joules() is None


def test_energy_is_the_difference_of_the_packages_across_a_wrap(tmp_path):
    for name, value in (("intel-rapl:0", 9_000_000), ("intel-rapl:1", 1_000_000), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(str(value))
        (tmp_path / name / "max_energy_range_uj").write_text("10000000")
    meter = EnergyMeter(tmp_path)
    before = meter.joules()
    assert before == [9.0, 1.0]  # a domain inside a package does not count twice
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000")
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("4000000")
    assert meter.since(before) == pytest.approx(3 + 3)


@pytest.mark.skipif(platform.system() != "Linux", reason="the peak is read from /proc")
def test_the_peak_of_one_piece_of_work_is_not_that_of_another():
    peak = PeakMemory(torch.device("cpu"))
    large = peak.of(lambda: torch.ones(20 * 2**20))
    small = peak.of(lambda: torch.ones(2**20))
    if large is None:
        pytest.skip("this machine does not let a process reset its peak")
    assert large > 75 * 2**20
    assert small < 40 * 2**20
