"""Bind and compile what real calls launch, as a GPU would, and launch nothing: `python recorded_launches.py`.

The interpreter takes any argument, and the shipped configurations are compiled for large, aligned ones.
Triton makes a constant of an argument that is 1 or None: only here does a kernel meet those. Binding and
compiling are Triton's own: its cache hook is given each launch that it would compile for.

Prints each compilation before it is done, and ends with what failed, by operator, case and kernel.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.errors import TritonError
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from mmbench_kernels._availability import gpu_path
from mmbench_kernels._triton import _launch
from mmbench_kernels._triton._aot import SHARED_BYTES
from mmbench_kernels._triton._machine_code import resource_usage
from tests.kernels.launching_calls import Call, model_calls, operator_calls

STACK_BYTES = {"multiscale_seg_loss.coarse_sums_kernel": 8}
"""That a thread of a kernel may use: heads of one pixel put one value away. Others none."""


class PretendedDriver:
    """What the launcher asks of the driver of a GPU; a device's number is its compute capability."""

    capability = 80

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


class Recorder:
    """Every distinct (kernel, signature, constants) that was launched, and the call that did so first.

    Attributes:
        origins: (kernel, capability, Triton's words for the rest) -> operator and case.
        launches: How many there were in all.
    """

    def __init__(self) -> None:
        self.origins: dict[tuple[JITFunction[Any], int, str], str] = {}
        self.launches = 0

    @contextmanager
    def during(self, call: Call, capability: int) -> Iterator[None]:
        """Bind each launch inside as on a GPU of a capability, in place of launching it."""
        bind = JITFunction.run
        PretendedDriver.capability = capability

        def remember(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:
            key = fn.jit_function, capability, compile["specialization_data"]
            self.origins.setdefault(key, f"{call.operator}, {call.case}")
            return True  # then nothing is compiled yet

        def only_bind(kernel: JITFunction[Any], grid: Any) -> Callable[..., Any]:
            def launch(*arguments: Any, **named: Any) -> None:
                self.launches += 1
                try:
                    bind(kernel, *arguments, grid=grid, warmup=True, **named)
                except Exception as error:
                    error.add_note(f"binding {name_of(kernel)} in {call.operator}, {call.case}")
                    raise

            return launch

        launcher = JITFunction.__getitem__
        knobs.runtime.jit_cache_hook, JITFunction.__getitem__ = remember, only_bind
        try:
            yield
        finally:
            knobs.runtime.jit_cache_hook, JITFunction.__getitem__ = None, launcher

    def covering(self) -> Recorder:
        """Return few that have every form of every argument of every kernel, what adds most first."""
        forms = {
            key: {(key[0], key[1], *form) for form in forms_of(json.loads(key[2]))} for key in self.origins
        }
        found, missing = Recorder(), set[Any]().union(*forms.values())
        found.launches = self.launches
        while missing:
            key = max(forms, key=lambda key: len(forms[key] & missing))
            found.origins[key] = self.origins[key]
            missing -= forms[key]
        return found

    def failures(self) -> Iterator[str]:
        """Compile what was recorded, and yield what fails."""
        for (kernel, capability, words), origin in self.origins.items():
            name = f"{origin}: {name_of(kernel)} on sm_{capability}"
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()  # the compiler may end the process
            PretendedDriver.capability = capability
            try:
                compiled = kernel.preload(words)
            except (TritonError, RuntimeError) as error:
                yield f"{name}: {error}"
                continue
            if compiled.metadata.shared > SHARED_BYTES[capability]:
                yield f"{name}: {compiled.metadata.shared} bytes of shared memory"
            usage = resource_usage(compiled.asm["cubin"])
            if usage["STACK"] > STACK_BYTES.get(name_of(kernel), 0) or usage["LOCAL"]:
                yield f"{name}: spills, {usage['STACK']} bytes of stack, {usage['LOCAL']} of local memory"


def name_of(kernel: JITFunction[Any]) -> str:
    """Return "module.kernel"."""
    return f"{kernel.module.rpartition('.')[2]}.{kernel.__name__}"


def forms_of(specialisation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (argument, form): its type, or the constant that it is.

    Numbers above 1 are alike, and so are pointers: the shipped configurations are compiled for every dtype.

    Args:
        specialisation: Triton's own description of what it compiles.
    """
    for name, kind in specialisation["signature"].items():
        yield name, re.sub(r"\*\w+", "pointer", str(kind))
    constants = zip(specialisation["constant_keys"], specialisation["constant_vals"], strict=True)
    for place, value in constants:
        yield str(place), str(min(value, 2) if isinstance(value, int) else value)


@contextmanager
def counts_of_nothing() -> Iterator[None]:
    """Let whole numbers that no kernel writes be zeros: the host checks some of them on a CPU."""
    empty = _launch.empty

    def emptied(*arguments: Any, **named: Any) -> Tensor:
        made = empty(*arguments, **named)
        return made if made.is_floating_point() else made.zero_()

    _launch.empty = emptied
    try:
        yield
    finally:
        _launch.empty = empty


def recorded() -> Recorder:
    """Return what all calls launch."""
    recorder = Recorder()

    def record(calls: Iterator[Call]) -> None:
        for call in calls:
            for capability in call.capabilities:
                with recorder.during(call, capability):
                    call.run()

    with gpu_path():
        with counts_of_nothing():
            record(operator_calls())
        record(model_calls())
    return recorder


def main() -> int:
    """Compile what all calls launch, and return whether anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all",
        action="store_true",
        help="compile every distinct launch, minutes, not only as many as have every form of every argument",
    )
    everything = parser.parse_args().all
    torch.manual_seed(0)
    driver.set_active(PretendedDriver())
    recorder = recorded() if everything else recorded().covering()
    failures = list(recorder.failures())
    sys.stdout.write(f"{recorder.launches} launches, {len(recorder.origins)} compilations\n")
    sys.stderr.writelines(f"{each}\n" for each in failures)
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
