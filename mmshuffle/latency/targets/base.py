"""What every target has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from mmshuffle.errors import UserError

Event = dict[str, Any]


class DeviceError(UserError):
    """The device, or the way to it, failed."""


@dataclass(frozen=True)
class Place:
    """The folder of a measurement on the device.

    Attributes:
        folder: Its path there.
        free: Bytes that are free on its disk.
        machine: Architecture, such as ``aarch64``.
        python: Version of Python.
        implementation: Tag of Python in the names of wheels, such as ``cp311``.
    """

    folder: str
    free: int
    machine: str
    python: str
    implementation: str


class Target(ABC):
    """A device; a context manager, which makes a folder there and removes it again."""

    kind: ClassVar[str]
    emulated: ClassVar[bool] = False
    place: Place | None = None

    @property
    @abstractmethod
    def name(self) -> str:
        """How the target is called on the command line."""

    @abstractmethod
    def __enter__(self) -> 'Target':
        """Make the folder."""

    @abstractmethod
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder."""

    @abstractmethod
    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """Put files into the folder.

        Raises:
            DeviceError: They do not fit on its disk, or the connection failed.
        """

    @abstractmethod
    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """Run a job, see :func:`mmshuffle.latency.device.main.work`.

        Yields:
            Its events, as they come.

        Raises:
            DeviceError: It ended before the job did, or the job has a problem.
        """
