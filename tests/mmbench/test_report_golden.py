"""Every view in every format is, byte for byte, what was looked at when `tests/golden/report` was made."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mmbench.reporting.latex import PACKAGES

GOLDEN = Path(__file__).parents[1] / "golden"
WRITTEN = GOLDEN / "report" / "written"


def _maker():
    spec = importlib.util.spec_from_file_location("make_report", GOLDEN / "make_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the present code writes of the stored records."""
    maker, folder = _maker(), tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maker.exports, "__version__", maker.VERSION)
        patch.setattr(maker.bundle, "EXTRAS", ())  # the maker sets both; this puts them back
        patch.chdir(GOLDEN / "report")
        maker.make_report(folder)
    return folder


def test_the_same_files_are_written(written):
    assert sorted(os.listdir(written)) == sorted(os.listdir(WRITTEN))


@pytest.mark.parametrize("name", sorted(path.name for path in WRITTEN.iterdir()))
def test_a_file_is_what_it_was(written, name):
    assert (written / name).read_text(encoding="utf-8") == (WRITTEN / name).read_text(encoding="utf-8")


def test_the_stored_records_are_those_that_the_maker_makes(tmp_path):
    _maker().make_records(tmp_path)
    stored = GOLDEN / "report" / "records"
    assert sorted(os.listdir(tmp_path)) == sorted(os.listdir(stored))
    for path in stored.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_latex_tables_compile_and_none_is_wider_than_the_text(written, tmp_path):
    inputs = [f"\\input{{{path}}}" for path in sorted(written.glob("*.tex"))]
    assert len(inputs) == 7
    document = tmp_path / "all.tex"
    packages = [f"\\usepackage{{{name}}}" for name in PACKAGES]
    lines = [r"\documentclass{article}", *packages, r"\begin{document}", *inputs, r"\end{document}"]
    document.write_text("\n".join(lines), encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", document.name]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert found.returncode == 0, found.stdout[-2000:]
    assert "Overfull \\hbox" not in found.stdout
    assert document.with_suffix(".pdf").stat().st_size > 10_000


def test_a_caption_names_protocol_seeds_split_and_labels_and_a_comment_the_command_and_the_records():
    text = (WRITTEN / "scenario.tex").read_text(encoding="utf-8")
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for words in ("protocol 1", "seeds 0 to 2", "split standard", "eroded labels"):
        assert words in caption
    assert "% made by: mmbench report records --metric miou" in text
    comments = "\n".join(line for line in text.splitlines() if line.startswith("% records:"))
    finished = {path.stem for path in (GOLDEN / "report" / "records").glob("*.safetensors")}
    assert set(comments.replace("% records:", "").split()) == finished
