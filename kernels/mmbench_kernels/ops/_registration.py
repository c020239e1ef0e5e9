"""How an operator is made known to torch, and how its backend is chosen.

`declare` makes an operator of the dispatcher: one node to torch.compile, with a fake kernel for its shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, cast, get_args

import torch

Backend = Literal["auto", "torch", "triton"]

NAMESPACE = "mmbench"
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]


def declare(
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    backward: Callable[..., Any] | None = None,
    setup_context: Callable[..., None] | None = None,
) -> Callable[..., Any]:
    """Define `mmbench::NAME` and return it; without `backward`, a gradient through it raises.

    Args:
        schema: "NAME(Tensor x, float eps) -> (Tensor, Tensor)". An output may not be or alias an input.
        kernel: What runs on every device that has no kernel of its own.
        fake: The same arguments to empty outputs of the right shape, strides, dtype and device.
        backward: (ctx, *gradients of the outputs) -> one gradient or None for each argument of the schema. It
            calls another declared operator, so that a compiled graph holds one node for it too.
        setup_context: (ctx, inputs, output), saves what backward needs with ctx.save_for_backward.
    """
    name = schema[: schema.index("(")].strip()
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, _in_given_dtypes(kernel), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{name}: gradients of gradients are not implemented")

    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward or refuse, setup_context=setup_context, lib=_LIBRARY
    )
    return cast(Callable[..., Any], getattr(getattr(torch.ops, NAMESPACE), name).default)


def _in_given_dtypes(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Return a kernel that autocast, which would reach the operators inside, does not touch."""

    @wraps(kernel)
    def run(*arguments: Any, **named: Any) -> Any:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                with torch.autocast(device, enabled=False):
                    return run(*arguments, **named)
        return kernel(*arguments, **named)

    return run


def check_backend(operator: str, backend: str) -> None:
    """Refuse an unknown backend, and one that cannot run, with the reasons."""
    if backend not in get_args(Backend):
        raise ValueError(f"{operator}: backend is {backend!r}, expected 'auto', 'torch' or 'triton'")
    if backend == "triton":
        raise RuntimeError(
            f"{operator}: backend 'triton' cannot run: this version has no Triton kernels; "
            "use backend='auto' or 'torch'"
        )
