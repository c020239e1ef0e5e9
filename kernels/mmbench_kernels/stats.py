"""What the operators did that nobody asked for and a profile should show."""

from __future__ import annotations

copies: int = 0
"""Tensors copied in this process so far because their rows were not what a kernel is compiled for."""
