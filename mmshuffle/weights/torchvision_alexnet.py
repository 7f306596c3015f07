"""AlexNet, the network of 2014 in one tower, as named by torchvision.models.alexnet (BSD-3-Clause).

MMPretrain names its AlexNet alike, below ``backbone``.
"""

from torch import Tensor, nn

from mmshuffle.backbones.alexnet import AlexNet
from mmshuffle.errors import UserError

from .naming import rename

MARKERS = frozenset(f'features.{i}.weight' for i in (0, 3, 6, 8, 10))
TABLE = {
    'features.0': 'stages.0.0.conv',
    'features.3': 'stages.1.1.conv',
    'features.6': 'stages.2.1.conv',
    'features.8': 'stages.2.2.conv',
    'features.10': 'stages.2.3.conv',
}


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; names without a counterpart are kept as they are.

    Raises:
        UserError: ``network`` is an AlexNet of the other version.
    """
    if isinstance(network, AlexNet) and network.version != 'torchvision':
        raise UserError(
            "these weights are those of torchvision's AlexNet, which has no groups: "
            "give the backbone version='torchvision'"
        )
    return rename(tensors, TABLE)
