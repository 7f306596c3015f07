"""AlexNet, the network of 2014 in one tower, as named by torchvision (BSD-3-Clause).

MMPretrain names its AlexNet alike, below ``backbone``.
"""

from .family import Family, imagenet

TABLE = {
    'features.0': 'stages.0.0.conv',
    'features.3': 'stages.1.1.conv',
    'features.6': 'stages.2.1.conv',
    'features.8': 'stages.2.2.conv',
    'features.10': 'stages.2.3.conv',
}
FAMILIES = (
    Family(
        'torchvision AlexNet',
        frozenset(f'{module}.weight' for module in TABLE),
        TABLE,
        imagenet('transforms of AlexNet_Weights'),
        [dict(type='AlexNet', version='torchvision')],
        requires=dict(version='torchvision'),
        head={'classifier.1': 'hidden.0', 'classifier.4': 'hidden.1', 'classifier.6': 'fc'},
    ),
)
