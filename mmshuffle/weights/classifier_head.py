"""Published classifiers: their last layers, for the head of an image classifier."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def is_classifier(module: nn.Module) -> bool:
    """Whether ``module`` is a backbone with a head whose last layer is ``fc``."""
    return hasattr(module, 'backbone') and hasattr(getattr(module, 'head', None), 'fc')


def place_in_classifier(
    classifier: nn.Module,
    tensors: dict[str, Tensor],
    layers: Mapping[str, str],
    background: bool = False,
) -> dict[str, Tensor]:
    """Give a backbone's converted tensors, and its published classifier, a classifier's names.

    Fully connected layers and 1x1 convolutions stand for each other. A layer that was published
    without a bias gets one of zeros where the head has one.

    Args:
        tensors: The backbone's by its own names, the others by published names.
        layers: Published name of a layer to its name in the head.
        background: Whether class 0 of the published classifier is no class of the data set; it is
            dropped unless the head has a place for it.

    Returns:
        The tensors; a name without a counterpart is kept.
    """
    backbone, head = classifier.backbone.state_dict(), classifier.head.state_dict()
    result = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition('.')
        ours = f'{layers[layer]}.{leaf}' if layer in layers else None
        if ours is not None and ours in head:
            needed = head[ours].shape
            if background and len(value) == needed[0] + 1:
                value = value[1:]
            result[f'head.{ours}'] = (
                value.reshape(needed) if value.numel() == needed.numel() else value
            )
        else:
            result[f'backbone.{name}' if name in backbone else name] = value
    if 'head.fc.weight' in result and 'fc.bias' in head:
        result.setdefault('head.fc.bias', torch.zeros_like(head['fc.bias']))
    return result
