"""How an operator is made known to torch.

`declare` makes an operator of the dispatcher: one node to torch.compile, with a fake kernel for its shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import torch

NAMESPACE = "mmbench"
_LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")  # type: ignore[no-untyped-call]
_KERNELS: dict[str, Callable[..., Any]] = {}


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
    _KERNELS[f"{NAMESPACE}::{name}"] = kernel
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))  # type: ignore[no-untyped-call]
    _LIBRARY.impl(name, _in_given_dtypes(kernel), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_LIBRARY)

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(f"{name}: gradients of gradients are not implemented")

    torch.library.register_autograd(
        f"{NAMESPACE}::{name}", backward or refuse, setup_context=setup_context, lib=_LIBRARY
    )
    return cast(Callable[..., Any], getattr(getattr(torch.ops, NAMESPACE), name).default)


def kernel_of(name: str) -> Callable[..., Any]:
    """Return the function behind a declared operator, which calls the operators that a profile may count.

    Args:
        name: "mmbench::NAME".
    """
    return _KERNELS[name]


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
