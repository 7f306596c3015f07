"""ShuffleNet V2 as named by MMPretrain, formerly MMClassification (Apache-2.0)."""

from torch import Tensor, nn

from .naming import rename, shufflenet_v2_table
from .torchvision_shufflenet_v2 import check_layout

MARKERS = frozenset({'conv1.conv.weight', 'layers.0.0.branch1.0.conv.weight'})
TABLE = shufflenet_v2_table(
    stem=('conv1.conv', 'conv1.bn'),
    unit='layers.{stage}.{unit}',
    projection=[f'branch1.{i}.{layer}' for i in range(2) for layer in ('conv', 'bn')],
    branch=[f'branch2.{i}.{layer}' for i in range(3) for layer in ('conv', 'bn')],
    last=('layers.3.conv', 'layers.3.bn'),
)


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename MMPretrain's tensors, whose channel order is torchvision's.

    Raises:
        UserError: ``network`` is a ShuffleNetV2 of the other layout.
    """
    check_layout(network, 'torchvision')
    return rename(tensors, TABLE)
