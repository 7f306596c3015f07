"""Settings of a backbone that decide what its weights mean, but not their names and shapes.

A training checkpoint notes them. Without that, a ShuffleNet V2 0.5x in one channel order would take
the weights of the other without a word.
"""

from collections.abc import Mapping

from torch import nn

from .mmpretrain_shufflenet_v1 import check_shuffle
from .torchvision_shufflenet_v2 import check_layout

# The key of the note in a checkpoint's ``meta``.
NOTE = 'backbone_settings'
CHECKS = {'layout': check_layout, 'shuffle': check_shuffle}


def settings_of(model: nn.Module) -> dict[str, str]:
    """Such settings of a backbone, or of a model's ``backbone``; empty where it has none."""
    backbone = getattr(model, 'backbone', model)
    found = {name: getattr(backbone, name, None) for name in CHECKS}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def noted_settings(meta: object) -> Mapping[str, str]:
    """The note in a checkpoint's ``meta``, empty where it has none."""
    note = meta.get(NOTE) if isinstance(meta, Mapping) else None
    return note if isinstance(note, Mapping) else {}


def check_settings(model: nn.Module, note: Mapping[str, str]) -> None:
    """Refuse weights of a backbone with other settings.

    Args:
        model: A backbone, or a model that has one.
        note: What :func:`settings_of` gave for the network that was trained.

    Raises:
        UserError: The settings differ; the message names the argument.
    """
    backbone = getattr(model, 'backbone', model)
    for name, check in CHECKS.items():
        if name in note:
            check(backbone, note[name])
