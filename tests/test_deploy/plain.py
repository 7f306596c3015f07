"""What the tests of rewritten networks share."""

from collections import Counter
from collections.abc import Callable, Sequence

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


@torch.no_grad()
def assert_same(plain: nn.Module, *rewrites) -> None:
    """Compare in both precisions with rewritten copies, on images whose sides are odd."""
    for dtype, bound in ((torch.double, 1e-12), (torch.float, 1e-5)):
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(1, 3, 37, 34, dtype=dtype, generator=generator)
        expected = plain.to(dtype).eval()(images)
        for rewrite in rewrites:
            assert worst(expected, rewrite(plain)(images)) < bound


class Of(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor):
        return self.function(x)


ALIASES = {'_convolution': 'conv', 'relu_': 'relu', 'split_with_sizes': 'split'}


def channel_operations(module: nn.Module, shape: tuple[int, ...]) -> Counter:
    dtype = next(module.parameters()).dtype
    traced = torch.jit.trace(module.eval(), torch.rand(shape, dtype=dtype), check_trace=False)
    kinds = [node.kind() for node in traced.inlined_graph.nodes() if 'aten::' in node.kind()]
    names = [kind.split('::')[1] for kind in kinds]
    return Counter(ALIASES.get(name, name) for name in names)
