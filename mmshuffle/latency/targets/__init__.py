"""Where networks are measured."""

from mmshuffle.errors import UserError

from .adb import AdbTarget
from .base import Target
from .emulated import EmulatedTarget, prepare
from .python_target import LocalTarget, SSHTarget

__all__ = ['AdbTarget', 'EmulatedTarget', 'LocalTarget', 'SSHTarget', 'make_target', 'prepare']

KINDS = {cls.kind: cls for cls in (LocalTarget, SSHTarget, AdbTarget, EmulatedTarget)}


def make_target(name: str, keep: bool = False, **options: str | None) -> Target:
    """Make the target that a command line names; its options are those of ``options.json``.

    Raises:
        UserError: There is no such target.
    """
    kind, _, rest = name.partition(':')
    if name not in ('local', 'emulated', 'adb') and not (kind in ('ssh', 'adb') and rest):
        raise UserError(f'--target {name}: give local, ssh:USER@HOST, adb, adb:SERIAL or emulated')
    given = {key: value for key, value in options.items() if value}
    if 'folder' in given:
        given['parent'] = given.pop('folder')
    return KINDS[kind](*([rest] if rest else []), keep=keep, **given)
