"""What every export format does: write a file, run it, count its nodes."""

import importlib.util
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from mmshuffle.errors import UserError

Network = Callable[[np.ndarray], list[np.ndarray]]


@dataclass(frozen=True)
class Request:
    """What is to be written.

    Attributes:
        module: Maps images, (N, 3, H, W), to a tuple of tensors; in evaluation mode, on the CPU.
        images: An example of its input.
        input_name: Name of the input, where the format has names of one's own.
        output_names: Names of the outputs, likewise.
        dynamic_batch: Whether N is to stay free.
    """

    module: nn.Module
    images: Tensor
    input_name: str
    output_names: tuple[str, ...]
    dynamic_batch: bool


class Format(ABC):
    """One file format and the runtime that is its judge."""

    name: ClassVar[str]
    # Of the files that make up an export; the first is the one that a user names.
    suffixes: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    dynamic_batch: ClassVar[bool] = True
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
    def write(self, request: Request, paths: Sequence[Path]) -> None:
        """Write the files.

        Raises:
            UserError: The format cannot express the network.
        """

    @abstractmethod
    def load(self, paths: Sequence[Path], threads: int | None = None) -> Network:
        """Make the runtime ready, in float32.

        Args:
            paths: The files.
            threads: Threads that the runtime may use; its own choice where None.

        Returns:
            A function from images, (N, 3, H, W) float32, to the outputs.

        Raises:
            UserError: The runtime does not take the files.
        """

    @abstractmethod
    def count_nodes(self, paths: Sequence[Path]) -> Counter[str]:
        """Count the nodes of the graph by type."""


def first_line(error: BaseException) -> str:
    """Say in one line what an exporter or a runtime reported: its first cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
