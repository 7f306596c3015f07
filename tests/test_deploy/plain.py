"""What the tests of rewritten networks share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


@torch.no_grad()
def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give norms and biases numbers that folding and permuting must get right."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (_NormBase, nn.GroupNorm)):
            if part.weight is not None:
                part.weight.copy_(torch.rand(part.weight.shape, generator=generator) + 0.5)
                part.bias.copy_(torch.randn(part.bias.shape, generator=generator) / 2)
            if getattr(part, 'running_mean', None) is not None:
                shape = part.running_mean.shape
                part.running_mean.copy_(torch.randn(shape, generator=generator) / 2)
                part.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
        elif getattr(part, 'bias', None) is not None:
            part.bias.copy_(torch.randn(part.bias.shape, generator=generator) / 2)
    return module


def worst(expected: Tensor | Sequence[Tensor], found: Tensor | Sequence[Tensor]) -> float:
    """Largest difference of two lists of outputs, each against the largest value in it."""
    if isinstance(expected, Tensor):
        expected, found = [expected], [found]
    assert [x.shape for x in expected] == [x.shape for x in found]
    pairs = [(a.double(), b.double()) for a, b in zip(expected, found, strict=True)]
    # An output that is all zero, as behind a ReLU, must be met exactly.
    return max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-300)) for a, b in pairs)
