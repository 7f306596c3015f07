"""ShuffleNet V1 as named by the authors' release, megvii-model/ShuffleNet-Series (MIT).

Its code shuffles by the inverse of the paper's permutation, which group convolutions cannot undo.
"""

from torch import Tensor, nn

from .mmpretrain_shufflenet_v1 import check_shuffle
from .naming import depthwise_behind_shuffle, rename, shufflenet_v1_table

MARKERS = frozenset({'first_conv.0.weight', 'features.0.branch_main_1.0.weight'})
TABLE = shufflenet_v1_table(
    stem=('first_conv.0', 'first_conv.1'),
    unit='features.{index}',
    # Positions in a branch's Sequential, where ReLU takes a place of its own.
    layers=[
        *(f'branch_main_1.{i}' for i in (0, 1, 3, 4)),
        *(f'branch_main_2.{i}' for i in (0, 1)),
    ],
)


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename megvii's tensors and put the depthwise layers behind the inverse shuffle.

    Raises:
        UserError: ``network`` is a ShuffleNetV1 with another shuffle.
    """
    check_shuffle(network, 'inverse')
    return depthwise_behind_shuffle(rename(tensors, TABLE), inverse=True)
