"""What is known of a published naming scheme and of the networks that have it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mmshuffle.errors import UserError

Tensors = dict[str, Tensor]
Network = dict[str, Any]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """The input that weights were trained with: ``(pixel - mean) / std``, pixels from 0 to 255."""

    channel_order: str  # ``'RGB'`` or ``'BGR'``; ``mean`` and ``std`` are in this order
    mean: Triple  # subtracted from the pixels
    std: Triple  # divides the difference
    source: str  # who says so
    exception: str = ''  # input of other files of the same names, which no tensor tells apart

    def __str__(self) -> str:
        exception = f' ({self.exception})' if self.exception else ''
        return f'{self.channel_order}, mean {_show(self.mean)}, std {_show(self.std)}{exception}'


@dataclass(frozen=True)
class Family:
    """A naming scheme, and how the networks published under it were trained."""

    name: str
    markers: frozenset[str]  # tensor names that together tell the scheme
    table: Mapping[str, str]  # published name of a module, or of a tensor, to ours
    normalisation: Normalisation
    # Configs of the networks that files can be of. Their shapes differ, so one at most fits a file.
    networks: Sequence[Network]
    requires: Mapping[str, Any] = field(default_factory=dict)  # arguments that decide the meaning
    finish: Callable[[Tensors], Tensors] = lambda tensors: tensors  # reorders them, if needed
    eps: float = 1e-5
    act_cfg: Mapping[str, Any] = field(default_factory=lambda: dict(type='ReLU'))
    # The published classifier, after renaming: name of a layer to its name in the head of
    # :class:`~mmshuffle.classification.ImageClassifier`.
    head: Mapping[str, str] = field(default_factory=lambda: {'fc': 'fc'})
    background: bool = False  # whether class 0 of the published classifier is the background
    # What the name in front of the markers must end with, where another part of that name is of
    # another family.
    below: str = ''

    def convert(self, network: nn.Module, tensors: Tensors) -> Tensors:
        """Rename tensors for a network; names without a counterpart are kept."""
        if self.networks[0]['type'] in {cls.__name__ for cls in type(network).__mro__}:
            check_settings(network, self.requires)
        renamed = {}
        for name, value in tensors.items():
            module, _, leaf = name.rpartition('.')
            ours = f'{self.table[module]}.{leaf}' if module in self.table else name
            renamed[self.table.get(name, ours)] = value
        return self.finish(renamed)


# The key of the note in a training checkpoint's ``meta``, and the settings that it has: they decide
# what weights mean, but not their names and shapes, so that a ShuffleNet V2 0.5x in one channel
# order would take the weights of the other without a word.
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
    """Refuse weights of a backbone with other settings."""
    backbone = getattr(model, 'backbone', model)
    for name, value in wanted.items():
        found = getattr(backbone, name, value)
        # Without groups no shuffle changes anything.
        if found != value and not (name == 'shuffle' and backbone.groups == 1):
            raise UserError(
                f'these weights were trained with {name}={value!r}, not {found!r}: '
                f'give the backbone {name}={value!r}'
            )


def _show(values: Triple) -> str:
    shown = [f'{value:g}' for value in values]
    return shown[0] if len(set(shown)) == 1 else f'({", ".join(shown)})'
