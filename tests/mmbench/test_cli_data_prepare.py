"""`mmbench data prepare`, and the verbs that then read what it prepared."""

import json

import pytest

from mmbench.cli import main
from mmbench.datasets._prepared import parts as stored_parts

_SHORT = [
    *("-r", "smoke"),
    *("--set", "training.steps=2"),
    *("--set", "training.window=64"),
    *("--set", "training.batch_size=2"),
    *("--set", "evaluation.window=64"),
    *("--set", "methods.modality_dropout.base_width=8"),
    *("--device", "cpu"),
]


@pytest.fixture
def call(capfd, monkeypatch, tmp_path):
    """Call the command line in this process; returns (code, stdout, stderr)."""
    monkeypatch.setenv("MMBENCH_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        code = main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def data(call, tmp_path):
    """The arguments that choose a small Vaihingen of three tiles."""
    from mmbench.datasets._synthesis import write_isprs_folder

    root, split = tmp_path / "vaihingen", tmp_path / "split.yaml"
    write_isprs_folder("vaihingen", root, size=64, tiles=("1", "30", "2"))
    split.write_text("train: [1]\nval: [30]\ntest: [2]\n")
    return ["--root", root, "--split-file", split]


def test_prepare_says_what_it_did_and_how_much_lies_where(call, data, tmp_path):
    code, out, err = call("data", "prepare", "vaihingen", *data)
    assert code == 0, err
    (place,) = (tmp_path / "cache").iterdir()
    assert out == f"prepared 3 tiles, kept 0: 0.1 MiB in {place}\n"
    assert err == "1/3 tile 1: prepared\n2/3 tile 30: prepared\n3/3 tile 2: prepared\n"
    _, out, err = call("data", "prepare", "vaihingen", *data)
    assert out == f"prepared 0 tiles, kept 3: 0.1 MiB in {place}\n"
    assert err.count("kept") == 3
    assert call("data", "prepare", "vaihingen", *data, "--cache", tmp_path / "mine")[0] == 0
    assert [p.name for p in (tmp_path / "mine").iterdir()] == [place.name]


def test_a_run_reads_the_cache_where_there_is_one_and_the_record_is_the_same(call, data, tmp_path):
    def run(results, *more):
        arguments = ["-m", "modality_dropout", "-d", "vaihingen", *data, *_SHORT, *more]
        code, _, err = call("run", *arguments, "--results", tmp_path / results)
        assert code == 0, err
        (path,) = (tmp_path / results).glob("*.json")
        return err, json.loads(path.read_text())

    first, from_files = run("a")
    assert ", pixels from files, " in first
    call("data", "prepare", "vaihingen", *data)
    second, from_cache = run("b")
    assert ", pixels from cache, " in second
    third, without = run("c", "--no-cache")
    assert ", pixels from files, " in third
    records = [from_files, from_cache, without]
    assert [r["provenance"].pop("pixels") for r in records] == ["files", "cache", "files"]
    for key in ("id", "identity", "scenarios", "tiles"):
        assert from_files[key] == from_cache[key] == without[key]
    assert from_files["training"]["curve"] == from_cache["training"]["curve"] == without["training"]["curve"]


def test_train_and_evaluate_read_the_cache_too_and_score_the_same(call, data, tmp_path, monkeypatch):
    from mmbench.datasets.vaihingen import Vaihingen

    weights = tmp_path / "w.safetensors"
    train = ["train", "modality_dropout", "-d", "vaihingen", *data, *_SHORT, "--out", weights]
    evaluate = ["evaluate", weights, "--root", data[1], "--device", "cpu"]
    assert call(*train, "--no-cache")[0] == 0
    first = weights.read_bytes()
    code, scores, err = call(*evaluate, "--no-cache")
    assert code == 0, err
    call("data", "prepare", "vaihingen", *data)

    read = Vaihingen.read

    def refuse(self, tile_id, *arguments, labels="full"):
        # Only the truth under the other policy, which is no part of what is prepared, comes from the files.
        assert labels != self.split.labels_of(tile_id), "the files were read"
        return read(self, tile_id, *arguments, labels=labels)

    monkeypatch.setattr(Vaihingen, "read", refuse)
    code, _, err = call(*train)
    assert code == 0, err
    assert weights.read_bytes() == first
    assert call(*evaluate)[:2] == (0, scores)


def test_delete_says_what_is_gone_and_one_configuration_can_go_alone(call, data, tmp_path):
    call("data", "prepare", "vaihingen", *data)
    (kept,) = (tmp_path / "cache").iterdir()
    call("data", "prepare", "vaihingen", *data, "--height", "dsm")
    code, out, _ = call("data", "prepare", "vaihingen", *data, "--height", "dsm", "--delete")
    assert code == 0
    assert out.startswith(f"deleted {tmp_path / 'cache' / 'vaihingen-'}")
    assert list((tmp_path / "cache").iterdir()) == [kept]
    assert call("data", "prepare", "vaihingen", "--delete")[1] == f"deleted {kept}\n"
    _, out, _ = call("data", "prepare", "vaihingen", "--delete")
    assert out == f"nothing is prepared of 'vaihingen' in {tmp_path / 'cache'}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "vaihingn"], 3, "Did you mean 'vaihingen'?"),
        (["prepare", "vaihingn", "--delete"], 3, "Did you mean 'vaihingen'?"),
        (["prepare", "vaihingen", "--root", "/no/data"], 4, "not found in /no/data: 33 tiles expected"),
        (["prepare", "vaihingen", "--height", "sea"], 2, "'sea'"),
        (["prepare", "synthetic", "--split", "nowhere"], 3, "nowhere"),
    ],
)
def test_bad_input_is_one_line_with_its_code_and_makes_no_folder(call, tmp_path, arguments, code, message):
    found, _, err = call("data", *arguments)
    assert found == code
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "cache").exists()


def test_a_strangers_folder_and_contrary_options_are_code_2(call, data, tmp_path):
    strange = tmp_path / "cache" / f"vaihingen-{'0' * 16}"
    strange.mkdir(parents=True)
    code, _, err = call("data", "prepare", "vaihingen", "--delete")
    assert (code, strange.is_dir()) == (2, True)
    assert "was not made by 'mmbench data prepare vaihingen'" in err
    code, _, err = call(
        "run", "-m", "modality_dropout", "-d", "vaihingen", *data, *_SHORT, "--cache", tmp_path, "--no-cache",
        "--results", tmp_path / "results",
    )  # fmt: skip
    assert code == 2
    assert "--cache and --no-cache were both given" in err


def test_a_full_disk_is_code_7(call, data, monkeypatch):
    import shutil

    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        "mmbench.datasets._prepared.dataset.shutil.disk_usage", lambda path: usage._replace(free=5)
    )
    code, _, err = call("data", "prepare", "vaihingen", *data)
    assert code == 7
    assert "64.1 MiB are needed (0.1 MiB of pixels and 64.0 MiB to spare), 5 bytes are free" in err


def test_an_interruption_is_code_130_and_the_next_call_goes_on(call, data, monkeypatch):
    original = stored_parts.TileParts.write

    def stop(self, dataset, parts):
        if self.tile_id == "2":
            raise KeyboardInterrupt
        original(self, dataset, parts)

    with monkeypatch.context() as patch:
        patch.setattr(stored_parts.TileParts, "write", stop)
        code, _, said = call("data", "prepare", "vaihingen", *data)
    assert code == 130
    assert said.endswith("error: interrupted; what is prepared is kept: run the same command to go on\n")
    _, out, err = call("data", "prepare", "vaihingen", *data)
    assert out.startswith("prepared 1 tile, kept 2")
    assert "3/3 tile 2: prepared" in err


def test_an_interrupted_synthesis_and_deletion_say_what_is_left(call, tmp_path, monkeypatch):
    def stop(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("mmbench.datasets._synthesis.write_isprs_folder", stop)
    monkeypatch.setattr("mmbench.datasets._prepared.cache.delete", stop)
    code, _, err = call("data", "synth", tmp_path / "out", "--layout", "potsdam")
    assert (code, err) == (130, "error: interrupted; nothing was written\n")
    code, _, err = call("data", "prepare", "vaihingen", "--delete")
    assert (code, err) == (130, "error: interrupted; run the same command to delete the rest\n")


@pytest.mark.parametrize("argument", ["mine", "mine.py"])
def test_what_is_left_of_a_dataset_that_is_gone_can_be_deleted(call, tmp_path, argument):
    place = tmp_path / "cache" / f"mine-{'0' * 16}"
    place.mkdir(parents=True)
    (place / "mmbench-prepared.json").write_text('{"dataset": "mine"}')
    assert call("data", "prepare", argument, "--delete") == (0, f"deleted {place}\n", "")
    code, _, err = call("data", "prepare", argument, "--delete")
    assert code == 3
    assert "unknown dataset 'mine'" in err


def test_delete_with_a_root_deletes_what_that_folder_gave(call, data, tmp_path):
    import shutil

    shutil.copytree(data[1], tmp_path / "copy")
    other = ["--root", tmp_path / "copy", *data[2:]]
    for arguments in (data, other):
        assert call("data", "prepare", "vaihingen", *arguments)[1].startswith("prepared 3 tiles, kept 0")
    code, out, err = call("data", "prepare", "vaihingen", "--root", tmp_path / "copy", "--delete")
    assert code == 0, err
    assert out.count("deleted ") == 6
    assert call("data", "prepare", "vaihingen", *data)[1].startswith("prepared 0 tiles, kept 3")


@pytest.mark.parametrize(("cache", "found"), [("typo", "is not there"), ("split.yaml", "is a file")])
def test_a_given_cache_that_is_no_folder_is_refused(call, data, tmp_path, cache, found):
    code, _, err = call(
        "run", "-m", "modality_dropout", "-d", "vaihingen", *data, *_SHORT, "--cache", tmp_path / cache,
        "--results", tmp_path / "results",
    )  # fmt: skip
    assert code == 2
    assert f"--cache {tmp_path / cache} {found}" in err
    assert "mmbench data prepare vaihingen" in err
    assert not (tmp_path / "results").exists()
