"""SqueezeNet as named by torchvision.models.squeezenet (BSD-3-Clause).

Files that others converted from the authors' Caffe release have the same names and shapes, but were
trained with another input (BGR, the mean subtracted, not divided): nothing in them tells.
"""

from torch import Tensor, nn

from mmshuffle.backbones.squeezenet import VERSIONS, SqueezeNet
from mmshuffle.errors import UserError

from .naming import rename

# Fire modules of one version stand where the other has a pooling.
MARKERS = {
    '1.0': frozenset({'features.0.weight', 'features.5.squeeze.weight'}),
    '1.1': frozenset({'features.0.weight', 'features.6.squeeze.weight'}),
}


def _table(version: str) -> dict[str, str]:
    table = {'features.0': 'stages.0.0.conv'}
    # Positions 0, 1 and 2 are the first convolution, its ReLU and the first pooling.
    position = 2
    for stage, fires in enumerate(VERSIONS[version][2]):
        for i in range(len(fires)):
            # Behind the pooling, and in stage 0 also behind the first convolution.
            ours = f'stages.{stage}.{i + (2 if stage == 0 else 1)}'
            for layer in ('squeeze', 'expand1x1', 'expand3x3'):
                table[f'features.{position + 1 + i}.{layer}'] = f'{ours}.{layer}.conv'
        position += len(fires) + 1
    return table


TABLES = {version: _table(version) for version in VERSIONS}


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; names without a counterpart are kept as they are.

    Raises:
        UserError: ``network`` is a SqueezeNet of the other version, or has a bypass.
    """
    version = '1.0' if tensors.keys() >= MARKERS['1.0'] else '1.1'
    if isinstance(network, SqueezeNet):
        if network.version != version:
            raise UserError(
                f'these weights are those of SqueezeNet {version}: '
                f'give the backbone version={version!r}'
            )
        if network.bypass is not None:
            raise UserError(
                'these weights were trained without a bypass: give the backbone bypass=None'
            )
    return rename(tensors, TABLES[version])
