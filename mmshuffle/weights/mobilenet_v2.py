"""MobileNet V2 as named by torchvision (BSD-3-Clause), for MMDetection's own.

Other PyTorch releases name the layers of a block flatly: ``conv.0`` where torchvision has
``conv.0.0``.
"""

from collections.abc import Sequence

from .family import RELU6, Family, imagenet

# Blocks of MMDetection's layer1 to layer7.
STAGE_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
LAYERS = [
    f'{name}.{layer}'
    for name in ('expand_conv', 'depthwise_conv', 'linear_conv')
    for layer in ('conv', 'bn')
]


def _table(first: Sequence[str], others: Sequence[str]) -> dict[str, str]:
    """Make a table of the published names of :data:`LAYERS`, of which block 1 lacks two."""
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


FAMILIES = tuple(
    Family(
        f'torchvision MobileNetV2{note}',
        frozenset({'features.0.0.weight', f'features.1.conv.{first[0]}.weight'}),
        _table(first, others),
        imagenet('transforms of MobileNet_V2_Weights'),
        [dict(type='MobileNetV2', widen_factor=width) for width in (1.0, 0.5, 0.75, 1.4)],
        act_cfg=RELU6,
        head={'classifier.1': 'fc'},
    )
    for note, first, others in (
        ('', ('0.0', '0.1', '1', '2'), ('0.0', '0.1', '1.0', '1.1', '2', '3')),
        (' with flat names', ('0', '1', '3', '4'), ('0', '1', '3', '4', '6', '7')),
    )
)
