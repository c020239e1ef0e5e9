"""Kernels compiled ahead of time, without a GPU, and what the machine code must not need.

A kernel that spills registers, loses its wide loads or leaves the tensor cores still gives right results:
only its machine code shows it. `compile_case` reads it, `violations` says what a case's gates refuse.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mmbench_kernels._triton._launch import Config

CAPABILITIES = (80, 90, 100)
"""Compute capabilities that every shipped configuration is compiled for, ten times major.minor."""

SHARED_BYTES = {80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}
"""Shared memory that one block may have."""

REGISTERS_OF_SM = 65536

# HFMA2.MMA is an ordinary multiply-add on a pipe of that name, hence whole words.
_TENSOR_CORES = re.compile(r"(HMMA|HGMMA|QGMMA|UTC\w*MMA)(\.|$)")
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)([^;]*);")
_LABEL = re.compile(r"^\s*(\.L_x_\d+):")
_TARGET = re.compile(r"\((\.L_x_\d+)\)")


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


@dataclass(frozen=True)
class Resources:
    """What the machine code of a case needs, per thread or (shared) per block, and counts of instructions."""

    capability: int
    threads: int
    registers: int
    stack_bytes: int
    local_bytes: int
    shared_bytes: int
    spills: int
    tensor_cores: int
    loads: int
    wide_loads: int
    stores: int
    wide_stores: int
    asynchronous_loads: int
    exponentials: int
    instructions: int
    loop_instructions: int


def compile_case(case: AotCase, capability: int) -> Resources:
    """Compile a case for one architecture and read what it needs.

    Args:
        case: The configuration.
        capability: 80 for sm_80, and so on.

    Raises:
        ValueError: If the case's arguments are not those of its kernel.
    """
    compiled = triton.compile(
        _source(case), target=GPUTarget("cuda", capability, 32), options=case.config.options()
    )
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
        listing = _tool("nvdisasm", "-c", file.name)
    numbers = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return count_instructions(
        listing,
        capability=capability,
        threads=32 * case.config.num_warps,
        registers=numbers["REG"],
        stack_bytes=numbers["STACK"],
        local_bytes=numbers["LOCAL"],
        shared_bytes=int(compiled.metadata.shared),
    )


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


def _tool(name: str, *arguments: str) -> str:
    """Return what a tool of the installed triton prints."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True).stdout


def count_instructions(listing: str, **known: int) -> Resources:
    """Return what a listing of machine code needs.

    Args:
        listing: As nvdisasm prints it.
        **known: The fields of `Resources` that it does not tell.
    """
    code = list(_instructions(listing))
    names = [name for name, _ in code]

    def matching(pattern: str) -> int:
        return sum(re.match(pattern, name) is not None for name in names)

    return Resources(
        **known,
        spills=matching(r"(LDL|STL)(\.|$)"),
        tensor_cores=sum(_TENSOR_CORES.match(name) is not None for name in names),
        loads=matching(r"(LDG|LDGSTS|UTMALDG)(\.|$)"),
        wide_loads=matching(r"LDG(STS)?\.(\w+\.)*128|UTMALDG"),
        stores=matching(r"(STG|UTMASTG)(\.|$)"),
        wide_stores=matching(r"STG\.(\w+\.)*128|UTMASTG"),
        asynchronous_loads=matching(r"LDGSTS|UTMALDG"),
        exponentials=matching(r"MUFU\.EX2"),
        instructions=len(names),
        loop_instructions=_busiest_loop(code, listing),
    )


def _instructions(listing: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the operands of each instruction."""
    for line in listing.splitlines():
        if (found := _INSTRUCTION.match(line)) and found[1] != "NOP":
            yield found[1], found[2]


def _busiest_loop(code: Sequence[tuple[str, str]], listing: str) -> int:
    """Return the length of the innermost loop densest in tensor-core work; without any, of the longest.

    Densest, not with most: a jump back from a rare path behind a loop looks like a loop around it.
    """
    starts: dict[str, int] = {}
    place = 0
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            starts[label[1]] = place
        elif (found := _INSTRUCTION.match(line)) and found[1] != "NOP":
            place += 1
    loops = []
    for end, (name, operands) in enumerate(code):
        target = _TARGET.search(operands) if name.startswith("BRA") else None
        # The listing ends with a branch to itself.
        if target and starts.get(target[1], end) < end:
            loops.append(range(starts[target[1]], end + 1))
    innermost = [
        loop for loop in loops if not any(other != loop and set(other) <= set(loop) for other in loops)
    ]
    weights = [
        (sum(_TENSOR_CORES.match(code[place][0]) is not None for place in loop) / len(loop), len(loop))
        for loop in innermost
    ]
    return max(weights, default=(0, 0))[1]
