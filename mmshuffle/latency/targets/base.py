"""What every target has in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmshuffle.errors import UserError

Event = dict[str, Any]


class DeviceError(UserError):
    """The device, or the way to it, failed."""


def advise(text: str, hints: Mapping[str, str]) -> str | None:
    """The first line of a program's output with words of ``hints``, and what can be done."""
    found = ((line, hints[words]) for words in hints for line in text.splitlines() if words in line)
    return next((f'{line.strip()}; {advice}' for line, advice in found), None)


class Target(ABC):
    """A device; a context manager, which makes a folder there and removes it again."""

    kind: ClassVar[str]
    emulated: ClassVar[bool] = False
    keep: bool = False
    # The folder there, and what device/bootstrap.py tells of its disk, machine and Python.
    place: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """How the target is called on the command line."""
        return self.kind

    def probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Refuse a device that cannot do a request, before long work is done for it.

        Returns:
            What :attr:`place` has.

        Raises:
            DeviceError: It cannot be reached or written to, or its program cannot do that.
        """
        place = self.make_folder()
        self.remove_folder(place['folder'])
        return place

    def __enter__(self) -> 'Target':
        self.place = self.make_folder()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Remove the folder; where that fails, say where it is, unless something else failed."""
        if self.keep or self.place is None:
            return
        folder, self.place = self.place['folder'], None
        try:
            removed = self.remove_folder(folder)
        except DeviceError:
            removed = False
        if not removed and error is None:
            raise DeviceError(f'{self.name}: {folder} could not be removed: remove it by hand')

    @abstractmethod
    def make_folder(self) -> dict[str, Any]:
        """Make the folder; returns what :attr:`place` has."""

    @abstractmethod
    def remove_folder(self, folder: str) -> bool:
        """Remove the folder and return whether it is gone."""

    @abstractmethod
    def send(self, files: Mapping[str, Path]) -> None:
        """Put files into the folder.

        Raises:
            DeviceError: They do not fit on its disk, or the connection failed.
        """

    @abstractmethod
    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """Run a job and yield its events; see :func:`mmshuffle.latency.device.main.work`.

        Raises:
            DeviceError: It ended before the job did, or the job has a problem.
        """
