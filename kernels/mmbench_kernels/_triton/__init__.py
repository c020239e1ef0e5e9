"""Triton's kernels, one module an operator; imported at the first launch and never before."""
