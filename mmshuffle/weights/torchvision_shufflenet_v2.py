"""ShuffleNet V2 as named by torchvision.models.shufflenetv2 (BSD-3-Clause)."""

from torch import Tensor, nn

from mmshuffle.errors import UserError

STEM = {'conv1.0': 'stages.0.0.conv', 'conv1.1': 'stages.0.0.bn'}
CONV5 = {'conv5.0': 'stages.4.conv', 'conv5.1': 'stages.4.bn'}
# Positions in a branch's Sequential, where ReLU takes a place of its own.
BRANCH1 = {'0': '0.conv', '1': '0.bn', '2': '1.conv', '3': '1.bn'}
BRANCH2 = {'0': '0.conv', '1': '0.bn', '3': '1.conv', '4': '1.bn', '5': '2.conv', '6': '2.bn'}


def matches(names: set[str]) -> bool:
    """Whether these are torchvision's names."""
    return {'conv1.0.weight', 'stage2.0.branch1.0.weight'} <= names


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; names without a counterpart are kept as they are.

    Raises:
        UserError: ``network`` is a ShuffleNetV2 of the other layout.
    """
    if getattr(network, 'layout', 'torchvision') != 'torchvision':
        raise UserError(
            "these weights have torchvision's channel order: give the backbone layout='torchvision'"
        )
    return {_rename(name): value for name, value in tensors.items()}


def _rename(name: str) -> str:
    module, _, leaf = name.rpartition('.')
    if module in STEM:
        return f'{STEM[module]}.{leaf}'
    if module in CONV5:
        return f'{CONV5[module]}.{leaf}'
    parts = module.split('.')
    if len(parts) == 4 and parts[0] in ('stage2', 'stage3', 'stage4'):
        stage, unit, branch, position = int(parts[0][5]) - 1, *parts[1:]
        if branch == 'branch1' and unit == '0' and position in BRANCH1:
            return f'stages.{stage}.projection.{BRANCH1[position]}.{leaf}'
        if branch == 'branch2' and position in BRANCH2:
            return f'stages.{stage}.branches.{unit}.{BRANCH2[position]}.{leaf}'
    return name
