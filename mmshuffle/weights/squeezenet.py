"""SqueezeNet as named by torchvision (BSD-3-Clause).

Files that others converted from the authors' Caffe release have the same names and shapes, but were
trained with another input (BGR, the mean subtracted, not divided): nothing in them tells.
"""

from .family import Family, imagenet

# Fire modules of each of our stages, between two poolings.
STAGE_FIRES = {'1.0': (3, 4, 1), '1.1': (2, 2, 4)}
# Fire modules of one version stand where the other has a pooling.
MARKERS = {'1.0': 'features.5.squeeze.weight', '1.1': 'features.6.squeeze.weight'}


def _table(version: str) -> dict[str, str]:
    table = {'features.0': 'stages.0.0.conv'}
    # Positions 0, 1 and 2 are the first convolution, its ReLU and the first pooling.
    position = 2
    for stage, fires in enumerate(STAGE_FIRES[version]):
        for i in range(fires):
            # Behind the pooling, and in stage 0 also behind the first convolution.
            ours = f'stages.{stage}.{i + (2 if stage == 0 else 1)}'
            for layer in ('squeeze', 'expand1x1', 'expand3x3'):
                table[f'features.{position + 1 + i}.{layer}'] = f'{ours}.{layer}.conv'
        position += fires + 1
    return table


FAMILIES = tuple(
    Family(
        f'torchvision SqueezeNet {version}',
        frozenset({'features.0.weight', marker}),
        _table(version),
        imagenet(
            'transforms of SqueezeNet1_*_Weights',
            'if the file was converted from Caffe: BGR, mean (104, 117, 123), std 1',
        ),
        [dict(type='SqueezeNet', version=version)],
        requires=dict(version=version, bypass=None),
        head={'classifier.1': 'fc'},
    )
    for version, marker in MARKERS.items()
)
