"""Kernels compiled ahead of time, without a GPU, and what the machine code must not need.

A kernel that spills registers, loses its wide loads or leaves the tensor cores still gives right results:
only its machine code shows it. `compile_cases` has it read, `violations` says what a case's gates refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmbench_kernels._triton._launch import Config
from mmbench_kernels._triton._machine_code import (
    Resources,
    count_instructions,
    disassemble,
    resource_usage,
)

CAPABILITIES = (80, 90, 100)
"""Compute capabilities that every shipped configuration is compiled for, ten times major.minor."""

SHARED_BYTES = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
"""Shared memory that one block may have."""

REGISTERS_OF_SM = 65536


@dataclass(frozen=True)
class Gates:
    """What a case's machine code may need; stack, local memory and spills never.

    Args:
        max_registers: Of a thread.
        blocks_per_sm: So many blocks must fit the registers and the shared memory of a multiprocessor.
        max_shared_bytes: Of a block; None: what the architecture gives.
        tensor_cores: True needs matrix instructions, False forbids them, None does not look.
        wide_loads: Whether loads of 16 bytes must be there.
        wide_stores: Whether stores of 16 bytes must be there.
        asynchronous_loads: Whether loads past the registers into shared memory must be there.
        max_instructions_per_pair: Of a thread, in the innermost loop, for each of its pairs; or None.
        pairs: Query-key pairs (or other units) that one block works off in one turn of the innermost loop, as
            the compiler has unrolled it.
    """

    max_registers: int = 255
    blocks_per_sm: int = 1
    max_shared_bytes: int | None = None
    tensor_cores: bool | None = None
    wide_loads: bool = False
    wide_stores: bool = False
    asynchronous_loads: bool = False
    max_instructions_per_pair: float | None = None
    pairs: int = 0


@dataclass(frozen=True)
class AotCase:
    """One shipped configuration of a kernel.

    Args:
        name: Unique in its module.
        kernel: The `@triton.jit` function.
        signature: The type of each runtime argument: {"x_ptr": "*fp16", "height": "i32", "eps": "fp32"}.
        constants: The values of constexpr arguments that the configuration does not set, and None for
            pointers that are not given.
        config: The configuration.
        aligned: Runtime arguments divisible by 16, pointers in bytes.
        dtype: Of the data: "fp32", "fp16" or "bf16".
        gates: What the machine code may need.
    """

    name: str
    kernel: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    config: Config
    dtype: str
    aligned: Sequence[str] = ()
    gates: Gates = field(default_factory=Gates)


def compile_cases(cases: Sequence[AotCase], capability: int) -> list[Resources]:
    """Compile cases for one architecture and read what each needs.

    Args:
        cases: The configurations; many in one call are read much faster than one at a time.
        capability: 80 for sm_80, and so on.

    Raises:
        ValueError: If a case's arguments are not those of its kernel.
    """
    target = GPUTarget("cuda", capability, 32)
    compiled = [triton.compile(_source(case), target=target, options=case.config.options()) for case in cases]
    cubins = [each.asm["cubin"] for each in compiled]
    resources = []
    codes = disassemble(cubins, capability)
    for case, each, cubin, code in zip(cases, compiled, cubins, codes, strict=True):
        usage = resource_usage(cubin)
        resources.append(
            count_instructions(
                code,
                capability=capability,
                threads=32 * case.config.num_warps,
                registers=usage["REG"],
                stack_bytes=usage["STACK"],
                local_bytes=usage["LOCAL"],
                shared_bytes=int(each.metadata.shared),
            )
        )
    return resources


def violations(case: AotCase, resources: Resources) -> list[str]:
    """Return what the gates of a case refuse, each with its figures; empty if it may ship."""
    gates, found = case.gates, []
    if resources.stack_bytes or resources.local_bytes or resources.spills:
        found.append(
            f"spills: {resources.stack_bytes} bytes of stack, {resources.local_bytes} of local memory, "
            f"{resources.spills} instructions on them"
        )
    if resources.registers > gates.max_registers:
        found.append(f"registers: {resources.registers}, at most {gates.max_registers}")
    used = resources.registers * resources.threads * gates.blocks_per_sm
    if used > REGISTERS_OF_SM:
        found.append(f"registers: {used} for {gates.blocks_per_sm} blocks, at most {REGISTERS_OF_SM}")
    limit = SHARED_BYTES[resources.capability] // gates.blocks_per_sm
    limit = min(limit, gates.max_shared_bytes or limit)
    if resources.shared_bytes > limit:
        found.append(f"shared memory: {resources.shared_bytes} bytes, at most {limit}")
    if gates.tensor_cores is not None and gates.tensor_cores != (resources.tensor_cores > 0):
        wanted = "some" if gates.tensor_cores else "none"
        found.append(f"tensor cores: {resources.tensor_cores} instructions, expected {wanted}")
    found += [
        f"{name.replace('_', ' ')}: none, expected some"
        for name in ("wide_loads", "wide_stores", "asynchronous_loads")
        if getattr(gates, name) and not getattr(resources, name)
    ]
    if gates.max_instructions_per_pair is not None:
        per_pair = resources.loop_instructions * resources.threads / gates.pairs
        if not 0 < per_pair <= gates.max_instructions_per_pair:
            found.append(
                f"instructions a pair: {per_pair:.1f}, at most {gates.max_instructions_per_pair} and not 0"
            )
    return found


def _source(case: AotCase) -> ASTSource:
    """Return the kernel with the types and values of a case."""
    names = list(case.kernel.arg_names)
    constants = {**case.constants, **case.config.constants}
    given = {*case.signature, *constants}
    if given != set(names) or len(given) != len(case.signature) + len(constants):
        raise ValueError(
            f"{case.name}: signature and constants are {sorted(given)}, expected each of {sorted(names)} once"
        )
    if unknown := set(case.aligned) - set(case.signature):
        raise ValueError(f"{case.name}: aligned names {sorted(unknown)}, expected names of the signature")
    signature = {name: case.signature.get(name, "constexpr") for name in names}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in case.aligned}
    return ASTSource(case.kernel, signature, constants, attributes)
