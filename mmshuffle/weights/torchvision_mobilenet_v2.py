"""MobileNet V2 as named by torchvision.models.mobilenetv2 (BSD-3-Clause), for MMDetection's own.

Other PyTorch releases name the layers of a block flatly (``conv.0`` where torchvision has
``conv.0.0``) and are recognised as well.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .naming import rename

MARKERS = frozenset({'features.0.0.weight', 'features.1.conv.0.0.weight'})
MARKERS_FLAT = frozenset({'features.0.0.weight', 'features.1.conv.0.weight'})
# Blocks of MMDetection's layer1 to layer7.
STAGE_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
LAYERS = [
    f'{name}.{layer}'
    for name in ('expand_conv', 'depthwise_conv', 'linear_conv')
    for layer in ('conv', 'bn')
]
# Published names of LAYERS; the first block does not expand and lacks two of them.
NESTED = ('0.0', '0.1', '1.0', '1.1', '2', '3')
NESTED_FIRST = ('0.0', '0.1', '1', '2')
FLAT = ('0', '1', '3', '4', '6', '7')
FLAT_FIRST = ('0', '1', '3', '4')


def _table(first: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    blocks = [
        f'layer{stage}.{i}' for stage, count in enumerate(STAGE_BLOCKS, 1) for i in range(count)
    ]
    table = {}
    for number, ours in enumerate(blocks, 1):
        names, layers = (others, LAYERS) if number > 1 else (first, LAYERS[2:])
        for name, layer in zip(names, layers, strict=True):
            table[f'features.{number}.conv.{name}'] = f'{ours}.{layer}'
    for number, ours in ((0, 'conv1'), (len(blocks) + 1, 'conv2')):
        table[f'features.{number}.0'] = f'{ours}.conv'
        table[f'features.{number}.1'] = f'{ours}.bn'
    return table


TABLE = _table(NESTED_FIRST, NESTED)
TABLE_FLAT = _table(FLAT_FIRST, FLAT)


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; names without a counterpart are kept as they are."""
    return rename(tensors, TABLE if tensors.keys() >= MARKERS else TABLE_FLAT)
