"""MobileNet V1 as named by TensorFlow's TF-slim release (Apache-2.0), exported to ``.npz``.

The classifier has 1001 classes, of which class 0 is the background.
"""

from torch import Tensor, nn

from .naming import mobilenet_v1_layers

MARKERS = frozenset(
    {'MobilenetV1/Conv2d_0/weights', 'MobilenetV1/Conv2d_1_depthwise/depthwise_weights'}
)
NORM = {
    'gamma': 'weight',
    'beta': 'bias',
    'moving_mean': 'running_mean',
    'moving_variance': 'running_var',
}
LOGITS = 'MobilenetV1/Logits/Conv2d_1c_1x1'
# (height, width, in, out) and (height, width, channels, 1), both to (out, in of a group, h, w).
AXES = {'weights': (3, 2, 0, 1), 'depthwise_weights': (2, 3, 0, 1)}


def _layers() -> dict[str, str]:
    layers = {'MobilenetV1/Conv2d_0': 'stages.0.0'}
    for number, ours in enumerate(mobilenet_v1_layers(), 1):
        for part in ('depthwise', 'pointwise'):
            layers[f'MobilenetV1/Conv2d_{number}_{part}'] = f'{ours}.{part}'
    return layers


LAYERS = _layers()


def convert(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename TF-slim's tensors and put their axes into PyTorch's order."""
    result = {}
    for name, value in tensors.items():
        layer, _, leaf = name.partition('/BatchNorm/')
        if layer in LAYERS and leaf in NORM:
            result[f'{LAYERS[layer]}.bn.{NORM[leaf]}'] = value
            continue
        layer, _, leaf = name.rpartition('/')
        if layer == LOGITS and leaf == 'biases':
            result['logits.bias'] = value
        elif layer == LOGITS and leaf == 'weights' and value.ndim == 4:
            result['logits.weight'] = value.permute(AXES[leaf]).contiguous()
        elif layer in LAYERS and leaf in AXES and value.ndim == 4:
            result[f'{LAYERS[layer]}.conv.weight'] = value.permute(AXES[leaf]).contiguous()
        else:
            result[name] = value
    return result
