"""ShuffleNet V2 as named by the authors' release, megvii-model/ShuffleNet-Series (MIT).

Yolo-FastestV2 (BSD-3-Clause) publishes a 0.5x network of the same layout, without Conv5, with its
units named by stage.
"""

from torch import Tensor, nn

from .naming import rename, shufflenet_v2_table
from .torchvision_shufflenet_v2 import check_layout

MARKERS = frozenset({'first_conv.0.weight', 'features.0.branch_proj.0.weight'})
MARKERS_BY_STAGE = frozenset({'first_conv.0.weight', 'stage2.0.branch_proj.0.weight'})
LAYERS = dict(
    stem=('first_conv.0', 'first_conv.1'),
    # Positions in a branch's Sequential, where ReLU takes a place of its own.
    projection=[f'branch_proj.{i}' for i in (0, 1, 2, 3)],
    branch=[f'branch_main.{i}' for i in (0, 1, 3, 4, 5, 6)],
    last=('conv_last.0', 'conv_last.1'),
)
TABLE = {
    **shufflenet_v2_table(unit='features.{index}', **LAYERS),
    **shufflenet_v2_table(unit='stage{paper_stage}.{unit}', **LAYERS),
}


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename megvii's tensors; names without a counterpart are kept as they are.

    Raises:
        UserError: ``network`` is a ShuffleNetV2 of the other layout.
    """
    check_layout(network, 'megvii')
    return rename(tensors, TABLE)
