"""Naming schemes of published weight files: which is it, and how it maps onto our names."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from . import torchvision_shufflenet_v2

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Family:
    """A naming scheme.

    Attributes:
        name: What the report calls it.
        matches: Whether a set of names is of this scheme.
        convert: Renames tensors; raises :class:`~mmshuffle.errors.UserError` where the network was
            built in a way that the weights cannot fit.
    """

    name: str
    matches: Callable[[set[str]], bool]
    convert: Callable[[nn.Module, Tensors], Tensors]


FAMILIES = (
    Family(
        'torchvision ShuffleNetV2',
        torchvision_shufflenet_v2.matches,
        torchvision_shufflenet_v2.convert,
    ),
)


def recognise(module: nn.Module, tensors: Tensors) -> tuple[str, Tensors]:
    """Find the family of ``tensors`` and rename them for ``module``.

    Args:
        module: The network that they are for.
        tensors: Tensors by published names.

    Returns:
        The family's name, ``'mmshuffle'`` where no published scheme matches, and the tensors by the
        names of ``module``.
    """
    names = set(tensors)
    for family in FAMILIES:
        if family.matches(names):
            return family.name, family.convert(module, tensors)
    return 'mmshuffle', tensors
