"""MobileNet V1 as named by timm's ``mobilenetv1_100`` and its wider variants (Apache-2.0)."""

from torch import Tensor, nn

from .naming import mobilenet_v1_layers, rename

MARKERS = frozenset({'conv_stem.weight', 'blocks.0.0.conv_dw.weight', 'blocks.4.1.conv_pw.weight'})
# Layers of each block: its first has stride 2 but in block 0.
BLOCK_LAYERS = (1, 2, 2, 6, 2)
LAYERS = {
    'conv_dw': 'depthwise.conv',
    'bn1': 'depthwise.bn',
    'conv_pw': 'pointwise.conv',
    'bn2': 'pointwise.bn',
}


def _table() -> dict[str, str]:
    table = {'conv_stem': 'stages.0.0.conv', 'bn1': 'stages.0.0.bn'}
    theirs = [f'blocks.{b}.{i}' for b, layers in enumerate(BLOCK_LAYERS) for i in range(layers)]
    for block, ours in zip(theirs, mobilenet_v1_layers(), strict=True):
        table.update({f'{block}.{name}': f'{ours}.{layer}' for name, layer in LAYERS.items()})
    return table


TABLE = _table()


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename timm's tensors; names without a counterpart are kept as they are."""
    return rename(tensors, TABLE)
