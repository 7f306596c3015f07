"""Where networks are measured."""

from mmshuffle.errors import UserError

from .adb import AdbTarget
from .base import DeviceError, Event, Place, Target
from .local import EmulatedTarget, LocalTarget
from .ssh import SSHTarget

__all__ = [
    'AdbTarget',
    'DeviceError',
    'EmulatedTarget',
    'Event',
    'LocalTarget',
    'Place',
    'SSHTarget',
    'Target',
    'make_target',
]


def make_target(
    name: str,
    *,
    python: str | None = None,
    folder: str = '',
    keep: bool = False,
    ssh_config: str | None = None,
    root: str | None = None,
    cpu: str = 'max',
    binary: str | None = None,
) -> Target:
    """Make the target that a command line names.

    Args:
        name: ``local``, ``ssh:[USER@]HOST[:PORT]``, ``adb``, ``adb:SERIAL`` or ``emulated``.
        python: Python on the device.
        folder: Folder on the device to work in.
        keep: Leave the files there.
        ssh_config: File with ssh settings.
        root: Folder of the emulated system.
        cpu: Emulated processor.
        binary: Benchmark program for Android.

    Raises:
        UserError: There is no such target.
    """
    kind, _, rest = name.partition(':')
    if name == 'local':
        return LocalTarget(python=python, parent=folder, keep=keep)
    if name == 'emulated':
        return EmulatedTarget(root=root, cpu=cpu, parent=folder, keep=keep)
    if kind == 'adb' and (rest or name == 'adb'):
        return AdbTarget(rest or None, binary, keep)
    if kind == 'ssh' and rest:
        return SSHTarget(rest, config=ssh_config, python=python, parent=folder, keep=keep)
    raise UserError(f'--target {name}: give local, ssh:USER@HOST, adb, adb:SERIAL or emulated')
