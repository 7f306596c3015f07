"""Multiply-adds in the papers' convention."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(module: nn.Module, shape: Sequence[int]) -> int:
    """Count the multiply-adds of convolutions and fully connected layers.

    The papers' convention: one multiplication with its addition is one; BatchNorm, activations,
    pooling, shuffles and biases are free. Nothing is computed: the pass runs on shapes alone.

    Args:
        module: Network that takes one tensor; moved to the meta device, so give one to spare.
        shape: Shape of its input, (N, C, H, W).

    Returns:
        Multiply-adds of one forward pass.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.to('meta').eval()(torch.empty(*shape, device='meta'))
    # torch counts a multiplication and an addition as two operations.
    return counter.get_total_flops() // 2
