"""What a kernel's machine code needs, read with the tools of the installed Triton.

The disassembler takes a third of a second to start, longer than it takes for the code of fifty kernels: hence
those of one architecture are laid one behind the other and read at once.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import triton
from triton.backends.nvidia.compiler import sm_arch_from_capability

# HFMA2.MMA is an ordinary multiply-add on a pipe of that name, hence whole words.
_TENSOR_CORES = re.compile(r"(HMMA|HGMMA|QGMMA|UTC\w*MMA)(\.|$)")
_INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]+)\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)([^;]*);")
_TARGET = re.compile(r"\b0x([0-9a-f]+)\s*$")


class Instruction(NamedTuple):
    """One instruction: its name, its operands (of a branch: where to), and where it stands.

    Addresses are in bytes from the start of the listing, which may begin with other kernels.
    """

    address: int
    name: str
    operands: str


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


def resource_usage(cubin: bytes) -> dict[str, int]:
    """Return the bytes and registers that a compiled kernel declares: REG, STACK, LOCAL and others."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _tool("cuobjdump", "--dump-resource-usage", file.name)
    return {name: int(value) for name, value in re.findall(r"\b([A-Z]+):(\d+)", usage)}


def disassemble(cubins: Sequence[bytes], capability: int) -> list[list[Instruction]]:
    """Return the instructions of compiled kernels of one architecture, without those that do nothing.

    Args:
        cubins: One kernel each.
        capability: 80 for sm_80, and so on.

    Raises:
        ValueError: If a cubin does not hold exactly one kernel.
    """
    codes = [_code_of(cubin) for cubin in cubins]
    architecture = sm_arch_from_capability(capability).replace("sm_", "SM")
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(codes))
        file.flush()
        code = parse(_tool("nvdisasm", "--binary", architecture, file.name))
    starts = [0, *accumulate(map(len, codes))]
    places = [bisect_left(code, start, key=attrgetter("address")) for start in starts]
    return [code[first:last] for first, last in pairwise(places)]


def parse(listing: str) -> list[Instruction]:
    """Return the instructions of a listing, as nvdisasm prints it of a raw binary."""
    found = map(_INSTRUCTION.match, listing.splitlines())
    return [Instruction(int(each[1], 16), each[2], each[3]) for each in found if each and each[2] != "NOP"]


def count_instructions(code: Sequence[Instruction], **known: int) -> Resources:
    """Return what the machine code of a kernel needs.

    Args:
        code: Its instructions.
        **known: The fields of `Resources` that they do not tell.
    """

    def matching(pattern: str) -> int:
        return sum(re.match(pattern, each.name) is not None for each in code)

    return Resources(
        **known,
        spills=matching(r"(LDL|STL)(\.|$)"),
        tensor_cores=sum(_TENSOR_CORES.match(each.name) is not None for each in code),
        loads=matching(r"(LDG|LDGSTS|UTMALDG)(\.|$)"),
        wide_loads=matching(r"LDG(STS)?\.(\w+\.)*128|UTMALDG"),
        stores=matching(r"(STG|UTMASTG)(\.|$)"),
        wide_stores=matching(r"STG\.(\w+\.)*128|UTMASTG"),
        asynchronous_loads=matching(r"LDGSTS|UTMALDG"),
        exponentials=matching(r"MUFU\.EX2"),
        instructions=len(code),
        loop_instructions=_busiest_loop(code),
    )


def _busiest_loop(code: Sequence[Instruction]) -> int:
    """Return the length of the innermost loop densest in tensor-core work; without any, of the longest.

    Densest, not with most: a jump back from a rare path behind a loop looks like a loop around it.
    """
    places = [each.address for each in code]
    loops = []
    for end, each in enumerate(code):
        target = _TARGET.search(each.operands) if each.name.startswith("BRA") else None
        # The code ends with a branch to itself.
        if target and (start := bisect_left(places, int(target[1], 16))) < end:
            loops.append(range(start, end + 1))
    innermost = [
        loop for loop in loops if not any(other != loop and set(other) <= set(loop) for other in loops)
    ]
    weights = [
        (sum(_TENSOR_CORES.match(code[place].name) is not None for place in loop) / len(loop), len(loop))
        for loop in innermost
    ]
    return max(weights, default=(0, 0))[1]


def _code_of(cubin: bytes) -> bytes:
    """Return the encoded instructions of the one kernel of a cubin."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "one.cubin").write_bytes(cubin)
        # It writes what it extracts to where it runs.
        _tool("cuobjdump", "--extract-text", "all", "one.cubin", cwd=folder)
        codes = [path.read_bytes() for path in Path(folder).glob("*.bin")]
    if len(codes) != 1:
        raise ValueError(f"a cubin of {len(cubin)} bytes holds {len(codes)} kernels, expected one")
    return codes[0]


def _tool(name: str, *arguments: str, cwd: str | None = None) -> str:
    """Return what a tool of the installed triton prints; its errors are seen where this process's are."""
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return subprocess.run([path, *arguments], check=True, stdout=subprocess.PIPE, text=True, cwd=cwd).stdout
