"""What every export format does: write a file, run it, count its nodes."""

import importlib.util
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from mmshuffle.errors import UserError

# From images, (N, 3, H, W) float32, to the outputs.
Inference = Callable[[np.ndarray], list[np.ndarray]]


class Unsupported(UserError):
    """A network, or a form of it, cannot be written; another form or format may."""


class Format(ABC):
    """One file format and the runtime that is its judge."""

    name: ClassVar[str]
    # Of the files that make up an export; the first is the one that a user names.
    suffixes: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    dynamic_batch: ClassVar[bool] = True
    # What the runtime can compute in from the one file, its usual choice first.
    precisions: ClassVar[tuple[str, ...]] = ('fp32',)
    # Sizes of the blocks of channels that the runtime may work on, worth trying as `align` of
    # `shuffle_free`; 1 is to leave the channels as they are.
    aligns: ClassVar[tuple[int, ...]] = (1,)

    def require(self) -> None:
        """Refuse to start without the packages that the format needs.

        Raises:
            UserError: One is not installed.
        """
        missing = [name for name in self.packages if importlib.util.find_spec(name) is None]
        if missing:
            raise UserError(
                f'the {self.name} format needs {" and ".join(missing)}: '
                f'pip install {" ".join(missing)}'
            )

    def paths(self, path: Path) -> tuple[Path, ...]:
        """Files of an export that a user calls ``path``, with or without one of the suffixes."""
        stem = path.stem if path.suffix in self.suffixes else path.name
        return tuple(path.with_name(stem + suffix) for suffix in self.suffixes)

    @abstractmethod
    def write(
        self,
        module: nn.Module,
        images: Tensor,
        paths: Sequence[Path],
        output_names: Sequence[str],
        dynamic_batch: bool = False,
    ) -> None:
        """Write the files.

        Args:
            module: Maps images, (N, C, H, W), to a tuple of tensors; in evaluation mode, on the
                CPU, such as :class:`~.export.AsTuple`.
            images: An example of its input.
            paths: The files.
            output_names: Names of the outputs, where the format has names of one's own.
            dynamic_batch: Whether N is to stay free.

        Raises:
            Unsupported: The format cannot express the network.
        """

    @abstractmethod
    def load(self, paths: Sequence[Path], threads: int | None = None) -> Inference:
        """Make the runtime ready, in float32.

        Args:
            paths: The files.
            threads: Threads that the runtime may use; its own choice where None.

        Raises:
            UserError: The runtime does not take the files.
        """

    @abstractmethod
    def count_nodes(self, paths: Sequence[Path]) -> Counter[str]:
        """Count the nodes of the graph by type."""
