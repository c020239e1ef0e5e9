"""The configurations of attention that are compiled ahead of time, and what their machine code may need.

All with everything that a call can ask for: absent modalities left out, for queries too, and dropout; heads
of 32 with less as well. Other widths and strides are copied to these before a launch. Float16 has the tiles
of bfloat16, so one width of it is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from mmbench_kernels._triton._aot import AotCase, Gates
from mmbench_kernels._triton._attention_configs import (
    delta_config,
    forward_config,
    key_value_config,
    query_config,
)
from mmbench_kernels._triton._launch import Config
from mmbench_kernels._triton.modal_attention import forward_kernel
from mmbench_kernels._triton.modal_attention_backward import (
    delta_kernel,
    grad_key_value_kernel,
    grad_query_kernel,
)

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_FLOAT32 = {"lse_ptr", "delta_ptr", "grad_lse_ptr"}
_OTHERS = {"present_ptr": "*u8", "starts_ptr": "*i32", "row_hashes_ptr": "*i32", "column_hashes_ptr": "*i32"}
_FACTORS = {"scale", "scale_log2", "sign", "keep_scale"}

_SHIPPED = (
    ("bf16", "ieee", (16, 32, 64, 128)),
    ("fp16", "ieee", (32,)),
    ("fp32", "ieee", (16, 32, 64)),
    ("fp32", "tf32", (16, 32, 64)),
    ("fp32", "tf32x3", (16, 32)),
)

# Instructions of a thread a pair of query and key, by kernel and width, on the worst of the architectures.
_BUDGETS = {
    "forward": {16: 15.5, 32: 15.5, 64: 17.5, 128: 30.0},
    "query": {16: 15.5, 32: 15.5, 64: 20.5, 128: 25.0},
    "key_value": {16: 28.5, 32: 28.5, 64: 30.5, 128: 50.0},
}
_PLAIN_BUDGET = 10.0


def aot_cases() -> list[AotCase]:
    """Return every shipped configuration."""
    cases = [case for dtype, precision, widths in _SHIPPED for case in _cases(dtype, precision, widths)]
    forms = [case for dtype in ("bf16", "fp32") for case in _forms(dtype)]
    return [*cases, _plain(), *forms, *(_delta(dtype) for dtype in _DTYPES)]


def _forms(dtype: str) -> Iterator[AotCase]:
    """Yield what other calls compile of the heads of 32 that GEMMNet has: with less absent or no dropout."""
    presence, dropout = ("present_ptr", "starts_ptr"), ("row_hashes_ptr", "column_hashes_ptr")
    for form, skips_queries, absent in (
        ("full", False, presence + dropout),
        ("full dropout", False, presence),
        ("skip_keys", False, dropout),
        ("skip_keys dropout", False, ()),
        ("skip_tokens", True, dropout),
    ):
        for case in _cases(dtype, "ieee", (32,)):
            constants = {**case.constants, "SKIPS_QUERIES": skips_queries, **dict.fromkeys(absent)}
            yield case_of(f"{case.name} {form}", case.kernel, case.config, dtype, constants, case.gates)


def _cases(dtype: str, precision: str, widths: tuple[int, ...]) -> Iterator[AotCase]:
    for width in widths:
        for what, kernel, choose in (
            ("forward", forward_kernel, forward_config),
            ("query", grad_query_kernel, query_config),
            ("key_value", grad_key_value_kernel, key_value_config),
        ):
            config = choose(_DTYPES[dtype], width, precision)
            yield case_of(
                f"{what} {dtype} {precision} {width}",
                kernel,
                config,
                dtype,
                {"SKIPS_QUERIES": True, "PRECISION": precision},
                _gates(config, precision, None if dtype == "fp32" else _BUDGETS[what][width]),
            )


def _gates(config: Config, precision: str, budget: float | None) -> Gates:
    return Gates(
        tensor_cores=precision != "ieee" or budget is not None,
        wide_loads=True,
        wide_stores=True,
        asynchronous_loads=True,
        max_instructions_per_pair=budget,
        pairs=config.constants["BLOCK_M"] * config.constants["BLOCK_N"],
    )


def _plain() -> AotCase:
    """Return forward with nothing absent and nothing dropped."""
    config = forward_config(torch.bfloat16, 32, "ieee")
    nothing = dict.fromkeys(_OTHERS)
    constants = {"SKIPS_QUERIES": False, "PRECISION": "ieee", **nothing}
    gates = _gates(config, "ieee", _PLAIN_BUDGET)
    return case_of("forward bf16 ieee 32 plain", forward_kernel, config, "bf16", constants, gates)


def _delta(dtype: str) -> AotCase:
    return case_of(f"delta {dtype} 32", delta_kernel, delta_config(32), dtype, {}, Gates(wide_loads=True))


def case_of(
    name: str, kernel: Any, config: Config, dtype: str, constants: dict[str, Any], gates: Gates
) -> AotCase:
    """Return a case of a kernel whose tensors are dense, with rows as `kernel_rows` returns them.

    Args:
        name: Of the case.
        kernel: One of the four.
        config: Its blocks and warps.
        dtype: Of queries, keys and values.
        constants: The values of constants that the configuration does not set, None for pointers not given.
        gates: What the machine code may need.
    """
    names = [each for each in kernel.arg_names if each not in constants and each not in config.constants]
    signature = {each: _type_of(each, dtype) for each in names}
    aligned = [
        each for each in names if each.endswith("_ptr") or (each.startswith("stride_") and each[7] != "p")
    ]
    return AotCase(name, kernel, signature, constants, config, dtype, aligned, gates)


def _type_of(name: str, dtype: str) -> str:
    if name in _OTHERS:
        return _OTHERS[name]
    if name.endswith("_ptr"):
        return "*fp32" if name in _FLOAT32 else f"*{dtype}"
    return "fp32" if name in _FACTORS else "i32"
