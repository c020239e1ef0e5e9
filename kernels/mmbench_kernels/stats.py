"""What the operators did that nobody asked for and a profile should show."""

from __future__ import annotations

copies: int = 0
"""Tensors copied before a kernel because their innermost stride was not 1, in this process so far."""
