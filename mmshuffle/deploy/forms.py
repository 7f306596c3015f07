"""The exact forms that a ShuffleNet can be exported in."""

import copy
from dataclasses import dataclass

from torch import nn

from mmshuffle.deploy import shuffle_free, with_gather

# All compute the same; they differ in how channels get to their places.
FORMS = {
    'native': copy.deepcopy,
    'gather': with_gather,
    'free': shuffle_free,
}


@dataclass(frozen=True)
class Form:
    """One of :data:`FORMS`, with its setting.

    Attributes:
        name: Its name.
        align: Of :func:`mmshuffle.deploy.shuffle_free`; 1 for the others.
    """

    name: str
    align: int = 1

    def rewrite(self, module: nn.Module) -> nn.Module:
        """Copy a module in this form."""
        if self.align == 1:
            return FORMS[self.name](module)
        return shuffle_free(module, align=self.align)

    def __str__(self) -> str:
        return self.name if self.align == 1 else f'{self.name}-{self.align}'
