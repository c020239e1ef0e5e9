"""An anonymous export tells a reviewer what was measured, and not by whom."""

import getpass
import json
import platform
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from mmbench.cli import main
from mmbench.errors import DataError
from mmbench.records import read_records
from mmbench.results.export import export_anonymous
from mmbench.results.scrubbing import scrub
from mmbench.results.verification import verify

_SECRETS = ("lovelace", "/home/", "/mnt", "gpu-box-7", "byron", "2031-05-", "--methods", "Mozilla")


def _betray(content):
    """Put names, paths and times wherever a run or a stranger's version may put them."""
    content["provenance"] |= {
        "command": "mmbench run --methods gemmnet --root /home/lovelace/data --results '/mnt/x y/out'",
        "started": f"2031-05-0{1 + content['identity']['seed']}T10:00:00+00:00",
        "split": "lovelace-split.yaml",
        "git": "byron/mmbench@abc",
        "cwd": "/home/lovelace/work",
    }
    content["environment"] |= {"host": "gpu-box-7", "user": "lovelace", "browser": "Mozilla"}
    content["method"]["origin"] = "/home/lovelace/net.py"
    content["method"]["note"] = "weights of /home/lovelace/w.pt; blind to levels"
    content["training"]["trials"] = [
        {"learning_rate": 1e-3, "steps": 5, "miou": None, "seconds": 1.0, "chosen": False}
        | {"error": "RuntimeError: /home/lovelace/x"}
    ]


def _fail(content):
    _betray(content)
    content |= {"status": "failed", "scenarios": {}, "no_peek": []}
    content["error"] = {
        "kind": "method",
        "message": "OSError: cannot open '/home/ada lovelace/x.pt' on GPU-BOX-7: asked lovelace@byron.org",
    }


def _all_bytes(folder):
    return b"".join(path.name.encode() + path.read_bytes() for path in sorted(folder.iterdir()))


def test_no_name_path_host_or_time_is_left_and_every_score_id_and_matrix_is(foreign, tmp_path, monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "byron")
    monkeypatch.setattr(platform, "node", lambda: "gpu-box-7.cluster.example")
    paths = [foreign.add(0, _betray), foreign.add(1, _betray), foreign.add(2, _fail)]
    stored = load_file(paths[0].with_suffix(".safetensors"))
    save_file(stored, paths[0].with_suffix(".safetensors"), metadata={"by": "lovelace"})
    paths[0].with_suffix(".log").write_text("lovelace was here")
    into = tmp_path / "anonymous"
    exported = export_anonymous(foreign.folder, into)
    assert (exported.count, exported.doubts) == (3, ())
    written = _all_bytes(into).decode("utf-8", errors="replace")
    for secret in (*_SECRETS, str(Path.home()), str(tmp_path)):
        assert secret.lower() not in written.lower(), secret
    assert verify([into]).problems == ()
    before, after = ({r.id: r for r in read_records(folder)} for folder in (foreign.folder, into))
    assert before.keys() == after.keys()
    for record_id, record in after.items():
        original = before[record_id]
        assert record.scenarios == original.scenarios
        assert record.identity == original.identity
        assert record.environment["device"] == original.environment["device"]
        assert record.environment["torch"] == original.environment["torch"]
        assert record.training["seconds"] == original.training["seconds"]
        if record.status == "done":
            matrices = load_file(into / f"{record_id}.safetensors")
            assert all(
                np.array_equal(matrices[n], m)
                for n, m in load_file(foreign.folder / f"{record_id}.safetensors").items()
            )
            with safe_open(into / f"{record_id}.safetensors", framework="numpy") as stream:
                assert stream.metadata() is None
    (failed,) = (record for record in after.values() if record.status == "failed")
    assert failed.error["message"].startswith("OSError: cannot open '<path>' on <name>")


def test_the_order_in_which_records_were_started_is_kept(foreign, tmp_path):
    def started(when):
        return lambda content: content["provenance"].__setitem__("started", when)

    ids = [foreign.add(n, started(f"2031-0{9 - n}-01T00:00:00")).stem for n in range(3)]
    export_anonymous(foreign.folder, tmp_path / "out")
    later = sorted(read_records(tmp_path / "out"), key=lambda record: record.provenance["started"])
    assert [record.id for record in later] == ids[::-1]


def test_tables_of_the_export_are_those_of_the_records(foreign, tmp_path):
    from mmbench.reporting.leaderboard import leaderboards
    from mmbench.reporting.tables import console_table

    for number in range(6):
        foreign.add(number)
    export_anonymous(foreign.folder, tmp_path / "out")
    tables = [
        [console_table(board) for board in leaderboards(read_records(folder))]
        for folder in (foreign.folder, tmp_path / "out")
    ]
    assert tables[0] == tables[1]


@pytest.mark.parametrize("place", ["options", "tiles"])
def test_a_path_that_cannot_be_taken_out_is_refused_and_nothing_is_written(foreign, tmp_path, place):
    def betray(content):
        if place == "options":
            content["identity"]["method"]["options"]["weights"] = "/home/lovelace/w.pt"
        else:
            content["tiles"][0] = "/home/lovelace/tile"
            content["provenance"]["split"] = "own.yaml"

    if place == "options":
        foreign.add(0)
    path = foreign.add(1, betray)
    with pytest.raises(DataError, match="stands where it cannot be taken out") as caught:
        export_anonymous(foreign.folder, tmp_path / "out")
    assert str(caught.value).startswith(f"{path}: '/home/lovelace/")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_part_of_the_identity_is_pointed_out(foreign, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(getpass, "getuser", lambda: "lovelace")
    path = foreign.add(0, lambda c: c["identity"]["method"].__setitem__("name", "lovelace_net"))
    out = str(tmp_path / "out")
    assert main(["results", "export", str(foreign.folder), "--into", out, "--anonymous"]) == 0
    said = capfd.readouterr()
    assert said.err == (
        f"look again: {path.name} still says ['lovelace']: look whether that tells who ran it\n"
    )


def test_the_command_line_wants_the_flag_and_an_empty_folder(foreign, tmp_path, capfd):
    foreign.add(0)
    arguments = ["results", "export", str(foreign.folder), "--into", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert "expected --anonymous" in capfd.readouterr().err
    assert main([*arguments, "--anonymous"]) == 0
    assert main([*arguments, "--anonymous"]) == 2
    assert "expected a new or an empty folder" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cannot read /data/jo smith/x.tif: truncated", "cannot read <path>: truncated"),
        ("open 'C:\\Users\\jo\\x y.pt' failed", "open '<path>' failed"),
        (r"\\server\share\x is gone", "<path>"),
        ("file:///home/jo/x", "<path>"),
        ("~/data/x", "<path>"),
        ("~jo/data", "<path>"),
        ("see results/jo/x.json, please", "see <path>, please"),
        ("data/x.tif is short", "<path> is short"),
        ("irrg/ndsm: 1/2 of 3 m/s", "irrg/ndsm: 1/2 of 3 m/s"),
        ("mail jo@lab.example or 10.0.0.1", "mail <name> or <name>"),
        ("Host NODE-3, node-3.lab", "Host <name>, <name>.lab"),
        ("size mismatch: (4, 3) and (4, 2)", "size mismatch: (4, 3) and (4, 2)"),
        ("cuda:0 (NVIDIA H100 80GB HBM3)", "cuda:0 (NVIDIA H100 80GB HBM3)"),
    ],
)
def test_words_lose_paths_and_names_and_nothing_else(words, expected):
    assert scrub(words, {"node-3"}) == expected


@given(st.lists(st.text("abc ./\\:~@'", min_size=1, max_size=6), max_size=12))
def test_scrubbing_twice_is_scrubbing_once(parts):
    once = scrub(" ".join(parts), {"ab"})
    assert scrub(once, {"ab"}) == once
    assert not re.search(r"(^|\s)/[abc.]", once)


def test_a_message_of_millions_of_letters_is_cut_and_costs_no_time():
    assert len(scrub("a/" * 10**6, {"b"})) < 2100
    assert len(scrub("/" + " a" * 10**6, set())) < 2100


def test_the_export_is_json_like_any_record(foreign, tmp_path):
    foreign.add(0, _betray)
    export_anonymous(foreign.folder, tmp_path / "out")
    content = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert set(content["provenance"]) == {"label_policies", "mmbench", "pixels", "split", "started"}
    assert content["provenance"]["split"] == "own split"
    assert content["method"]["origin"] == "plug-in"
    assert "cores" not in content["environment"]
