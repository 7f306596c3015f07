"""A network in operations that XNNPACK, under LiteRT and ExecuTorch, takes and runs fast."""

import copy
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from .formats import refusing
from .ncnn_format import lower_gathers

ATEN = torch.ops.aten
SPLITS = (ATEN.split.Tensor, ATEN.split_with_sizes.default, ATEN.chunk.default)
MAX_CAT = 5  # what XNNPACK concatenates at once
RESHAPES = (ATEN.reshape.default, ATEN.view.default)


class Response(nn.Module):
    """Local response normalisation in operations of four dimensions."""

    def __init__(self, norm: nn.LocalResponseNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        norm, channels = self.norm, x.shape[1]
        squares = F.pad(x * x, (0, 0, 0, 0, norm.size // 2, (norm.size - 1) // 2))
        total = sum(squares[:, i : i + channels] for i in range(norm.size))
        scale = total * (norm.alpha / norm.size) + norm.k
        # XNNPACK has no powers but roots.
        root = scale.sqrt()
        return x / (root * root.sqrt() if norm.beta == 0.75 else scale.pow(norm.beta))


def lower(module: nn.Module, images: Tensor) -> fx.GraphModule:
    """Record a network, with other operations in place of those that XNNPACK does not take.

    Gathers and splits become slices, local response normalisation elementary operations. A channel
    shuffle is written in the order of memory that XNNPACK works in, channels last, where it is one
    transposition instead of three. A mean keeps its dimensions, an average pooling over a padding
    pads first, and a concatenation of many is one of concatenations.

    Args:
        module: See :meth:`.formats.Format.write`; not changed. What is recorded has contiguous
            tensors: ExecuTorch refuses others, and converters have read them in a wrong order.
        images: An example of its input.

    Raises:
        Unsupported: ``torch.export`` cannot record it.
    """
    module = copy.deepcopy(module)
    lower_gathers(module)
    for holder in list(module.modules()):
        for name, child in list(holder.named_children()):
            if type(child) is nn.LocalResponseNorm:
                setattr(holder, name, Response(child))
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.contiguous()
    with refusing('the network cannot be recorded by torch.export'), torch.no_grad():
        recorded = torch.export.export(module, (images,)).module()
    graph = recorded.graph
    for node in list(graph.nodes):
        with graph.inserting_before(node):
            if node.target in SPLITS:
                _slice(graph, node)
            elif changed := _rewrite(graph, node):
                changed.meta.setdefault('val', node.meta['val'])
                node.replace_all_uses_with(changed)
    graph.eliminate_dead_code()
    recorded.recompile()
    return recorded


def _slice(graph: fx.Graph, node: fx.Node) -> None:
    """Take each piece of a split by a slice."""
    dim = node.kwargs.get('dim', node.args[2] if len(node.args) > 2 else 0)
    bounds = [0, *accumulate(piece.shape[dim] for piece in node.meta['val'])]
    for user in list(node.users):
        start, stop = bounds[user.args[1] :][:2]
        piece = graph.call_function(ATEN.slice.Tensor, (node.args[0], dim, start, stop))
        piece.meta['val'] = user.meta['val']
        user.replace_all_uses_with(piece)


def _rewrite(graph: fx.Graph, node: fx.Node) -> fx.Node | None:
    """Write a node in other operations, where it is one of those."""
    call = graph.call_function
    if node.target is ATEN.mean.dim and not any(node.args[2:]):
        kept = call(ATEN.mean.dim, (*node.args[:2], True), node.kwargs)
        return call(ATEN.reshape.default, (kept, list(node.meta['val'].shape)))
    if node.target is ATEN.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
        return call(ATEN.mean.dim, (node.args[0], [2, 3], True))
    if node.target is ATEN.cat.default and not 2 <= len(node.args[0]) <= MAX_CAT:
        pieces, *dim = node.args
        while len(pieces) > 1:
            parts = [pieces[i : i + MAX_CAT] for i in range(0, len(pieces), MAX_CAT)]
            pieces = [
                call(ATEN.cat.default, (part, *dim)) if len(part) > 1 else part[0] for part in parts
            ]
        return pieces[0]
    # With a fifth argument, it rounds sizes up or does not count the padding.
    if node.target is ATEN.avg_pool2d.default and len(node.args) == 4 and not node.kwargs:
        x, size, stride, (above, left) = node.args
        padded = call(ATEN.constant_pad_nd.default, (x, [left, left, above, above], 0.0))
        return call(ATEN.avg_pool2d.default, (padded, size, stride))
    if node.target in RESHAPES and (found := _shuffled(node)):
        y, groups = found
        n, c, h, w = node.meta['val'].shape
        for target, *arguments in (
            (ATEN.permute.default, [0, 2, 3, 1]),
            (ATEN.reshape.default, [n, h, w, groups, c // groups]),
            (ATEN.transpose.int, 3, 4),
            (ATEN.reshape.default, [n, h, w, c]),
            (ATEN.permute.default, [0, 3, 1, 2]),
        ):
            y = call(target, (y, *arguments))
        return y
    return None


def _shuffled(node: fx.Node) -> tuple[fx.Node, int] | None:
    """The input and the groups of the channel shuffle that a reshaping ends."""
    turned = node.args[0]
    if turned.target is not ATEN.transpose.int or turned.args[1:] != (1, 2):
        return None
    parts = turned.args[0]
    if parts.target not in RESHAPES or parts.meta['val'].dim() != 5:
        return None
    x, shape = parts.args[0], node.meta['val'].shape
    split = parts.meta['val'].shape
    fits = x.meta['val'].shape == shape and len(shape) == 4 and split[3:] == shape[2:]
    return (x, split[1]) if fits else None
