"""Settings of a backbone that decide what its weights mean, but not their names and shapes.

A training checkpoint notes them. Without that, a ShuffleNet V2 0.5x in one channel order would take
the weights of the other without a word.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from mmshuffle.errors import UserError

# The key of the note in a checkpoint's ``meta``, and the settings that it has.
NOTE = 'backbone_settings'
NOTED = ('layout', 'shuffle')


def settings_of(model: nn.Module) -> dict[str, str]:
    """Such settings of a backbone, or of a model's ``backbone``; empty where it has none."""
    backbone = getattr(model, 'backbone', model)
    found = {name: getattr(backbone, name, None) for name in NOTED}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def noted_settings(meta: object) -> dict[str, str]:
    """The note in a checkpoint's ``meta``, empty where it has none."""
    note = meta.get(NOTE) if isinstance(meta, Mapping) else None
    return {name: note[name] for name in NOTED if name in note} if isinstance(note, Mapping) else {}


def check_settings(model: nn.Module, wanted: Mapping[str, Any]) -> None:
    """Refuse weights of a backbone with other settings.

    Args:
        wanted: Names and values of arguments of the network that was trained.
    """
    backbone = getattr(model, 'backbone', model)
    for name, value in wanted.items():
        found = getattr(backbone, name, value)
        # Without groups no shuffle changes anything.
        if found != value and not (name == 'shuffle' and backbone.groups == 1):
            raise UserError(
                f'these weights were trained with {name}={value!r}, not {found!r}: '
                f'give the backbone {name}={value!r}'
            )
