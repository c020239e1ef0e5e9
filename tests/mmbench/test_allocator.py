"""The allocator's setting: by the command line, never by an import, and in every record."""

import platform
import subprocess
import sys

import pytest

from mmbench import allocator
from mmbench.allocator import AS_IT_COMES, KEPT, allocator_setting, keep_freed_memory

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library here is not glibc")

FAULTS = """
import resource, sys
from mmbench.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
bytes(2**26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytearray(2**26)[::4096] = b"1" * 2**14
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@on_glibc
def test_memory_that_is_freed_and_wanted_again_causes_no_new_page_faults():
    as_it_comes, kept = int(run(FAULTS, "no")), int(run(FAULTS, "kept"))
    assert as_it_comes > 20 * 16_000 / 2
    assert kept < as_it_comes / 5


@on_glibc
def test_the_command_line_sets_it_and_an_import_does_not():
    say = "from mmbench.allocator import allocator_setting; print(allocator_setting())"
    assert run(f"import mmbench, mmbench.cli, mmbench.execution; {say}") == AS_IT_COMES
    assert run(f"import mmbench.cli; mmbench.cli.main(['list']); {say}").splitlines()[-1] == KEPT


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(allocator, "_setting", AS_IT_COMES)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
    assert allocator_setting() == AS_IT_COMES


def test_a_record_says_which_setting_its_seconds_were_measured_with(monkeypatch):
    import torch

    from mmbench.devices import environment

    monkeypatch.setattr(allocator, "_setting", KEPT)
    assert environment(torch.device("cpu"))["allocator"] == KEPT
