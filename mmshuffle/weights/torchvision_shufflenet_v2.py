"""ShuffleNet V2 as named by torchvision.models.shufflenetv2 (BSD-3-Clause), and by NanoDet."""

from torch import Tensor, nn

from mmshuffle.errors import UserError

from .naming import rename, shufflenet_v2_table

MARKERS = frozenset({'conv1.0.weight', 'stage2.0.branch1.0.weight'})
TABLE = shufflenet_v2_table(
    stem=('conv1.0', 'conv1.1'),
    unit='stage{paper_stage}.{unit}',
    # Positions in a branch's Sequential, where ReLU takes a place of its own.
    projection=[f'branch1.{i}' for i in (0, 1, 2, 3)],
    branch=[f'branch2.{i}' for i in (0, 1, 3, 4, 5, 6)],
    last=('conv5.0', 'conv5.1'),
)


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors; names without a counterpart are kept as they are.

    Raises:
        UserError: ``network`` is a ShuffleNetV2 of the other layout.
    """
    check_layout(network, 'torchvision')
    return rename(tensors, TABLE)


def check_layout(network: nn.Module, layout: str) -> None:
    """Refuse weights whose channel order is not the network's.

    Raises:
        UserError: ``network`` is a ShuffleNetV2 of another layout.
    """
    if getattr(network, 'layout', layout) != layout:
        raise UserError(
            f"these weights have {layout}'s channel order: give the backbone layout={layout!r}"
        )
