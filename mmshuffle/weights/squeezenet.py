"""SqueezeNet and AlexNet, the network of 2014 in one tower, as named by torchvision (BSD-3-Clause).

SqueezeNets that others converted from the authors' Caffe release have the same names and shapes,
but were trained with another input (BGR, the mean subtracted, not divided): nothing in them tells.
MMPretrain names its AlexNet as torchvision does, below ``backbone``.
"""

from .family import Family, imagenet

ALEXNET = {
    'features.0': 'stages.0.0.conv',
    'features.3': 'stages.1.1.conv',
    'features.6': 'stages.2.1.conv',
    'features.8': 'stages.2.2.conv',
    'features.10': 'stages.2.3.conv',
}


def _table(stage_fires: tuple[int, ...]) -> dict[str, str]:
    """Names by the Fire modules of each of our stages, between two poolings."""
    table = {'features.0': 'stages.0.0.conv'}
    # Positions 0, 1 and 2 are the first convolution, its ReLU and the first pooling.
    position = 2
    for stage, fires in enumerate(stage_fires):
        for i in range(fires):
            # Behind the pooling, and in stage 0 also behind the first convolution.
            ours = f'stages.{stage}.{i + (2 if stage == 0 else 1)}'
            for layer in ('squeeze', 'expand1x1', 'expand3x3'):
                table[f'features.{position + 1 + i}.{layer}'] = f'{ours}.{layer}.conv'
        position += fires + 1
    return table


FAMILIES = (
    *(
        Family(
            f'torchvision SqueezeNet {version}',
            frozenset({'features.0.weight', f'features.{position}.squeeze.weight'}),
            _table(stage_fires),
            imagenet(
                'transforms of SqueezeNet1_*_Weights',
                'if the file was converted from Caffe: BGR, mean (104, 117, 123), std 1',
            ),
            [dict(type='SqueezeNet', version=version)],
            requires=dict(version=version, bypass=None),
            head={'classifier.1': 'fc'},
        )
        # At this position one version has a Fire module where the other has a pooling.
        for version, position, stage_fires in (('1.0', 5, (3, 4, 1)), ('1.1', 6, (2, 2, 4)))
    ),
    Family(
        'torchvision AlexNet',
        frozenset(f'{module}.weight' for module in ALEXNET),
        ALEXNET,
        imagenet('transforms of AlexNet_Weights'),
        [dict(type='AlexNet', version='torchvision')],
        requires=dict(version='torchvision'),
        head={'classifier.1': 'hidden.0', 'classifier.4': 'hidden.1', 'classifier.6': 'fc'},
    ),
)
