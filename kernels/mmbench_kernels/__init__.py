"""The operators of mmbench: hot pieces of the methods, each with a plain PyTorch definition.

Every function accepts float64, any strides and any device. They are the one place where a faster path for
a device may be put without a method noticing.
"""

from mmbench_kernels.ops.modal_attention import modal_attention
from mmbench_kernels.ops.modal_fuse import modal_fuse
from mmbench_kernels.ops.multiscale_seg_loss import multiscale_seg_loss
from mmbench_kernels.ops.norm_act_pad import norm_act_pad

__all__ = ["modal_attention", "modal_fuse", "multiscale_seg_loss", "norm_act_pad"]
