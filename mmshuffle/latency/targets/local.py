"""This machine, directly or as another one that QEMU emulates."""

import os
import shutil
import sys
from pathlib import Path

from mmshuffle.errors import UserError

from .python_target import PythonTarget

QEMU = ('qemu-aarch64-static', 'qemu-aarch64')


class LocalTarget(PythonTarget):
    """This machine, in processes of their own.

    Args:
        python: Another Python than the one that runs here.
        **kwargs: See :class:`PythonTarget`.
    """

    kind = 'local'

    def __init__(self, python: str | None = None, **kwargs) -> None:
        super().__init__([python or sys.executable], **kwargs)


class EmulatedTarget(PythonTarget):
    """A 64-bit ARM system in a folder, whose programs QEMU translates one process at a time.

    It shows whether the ARM code of a runtime gives the right outputs. Its times are those of a
    translation: they say nothing about any ARM processor.

    Args:
        root: Folder of the system, with Python in ``usr/bin``.
        cpu: Processor to be emulated, see ``qemu-aarch64-static -cpu help``.
        **kwargs: See :class:`PythonTarget`.

    Raises:
        UserError: QEMU is missing, or the folder has no Python.
    """

    kind = 'emulated'
    emulated = True

    def __init__(self, root: str | None = None, cpu: str = 'max', **kwargs) -> None:
        if root is None:
            raise UserError('the target emulated needs --root, a folder with an arm64 system')
        found = [path for path in map(shutil.which, QEMU) if path]
        if not found:
            raise UserError('the target emulated needs QEMU: apt-get install qemu-user-static')
        python = Path(root, 'usr/bin/python3').resolve()
        if not python.is_file():
            raise UserError(f'--root {root}: no usr/bin/python3 there; see docs/latency.md')
        emulator = [found[0], '-cpu', cpu, '-L', str(Path(root).resolve())]
        super().__init__([*emulator, str(python)], **kwargs)

    def environment(self) -> dict[str, str]:
        """This environment without what is meant for this machine's own Python."""
        return {key: value for key, value in os.environ.items() if not key.startswith('PYTHON')}
