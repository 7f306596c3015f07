"""A device that is reached by the system's ``ssh``, with the user's keys and settings."""

import re
import shlex
from collections.abc import Sequence

from mmshuffle.errors import UserError, last_line

from .base import advise
from .python_target import PythonTarget

ADDRESS = re.compile(
    r'(?:(?P<user>\w[\w.-]*)@)?(?P<host>\w[\w.-]*|\[[0-9A-Fa-f:]+\])(?::(?P<port>\d+))?'
)
OPTIONS = (
    '-T',
    # No question is ever asked: a wrong key ends with a message instead.
    '-oBatchMode=yes',
    '-oConnectTimeout=15',
    # A host that is gone is noticed after half a minute.
    '-oServerAliveInterval=10',
    '-oServerAliveCountMax=3',
)
# What ssh says, and what can be done.
HINTS = {
    'Could not resolve hostname': 'check the name, or give the address',
    'Connection refused': 'start its ssh server, or give the port as ssh:HOST:PORT',
    'timed out': 'check that it is switched on and in the same network',
    'No route to host': 'check that it is switched on and in the same network',
    'Permission denied': 'copy your key there with ssh-copy-id; passwords are not asked for',
    'Host key verification failed': 'log in once with ssh by hand and compare its key',
    'REMOTE HOST IDENTIFICATION HAS CHANGED': 'find out why before you connect again',
}


class SSHTarget(PythonTarget):
    """A device with an ssh server and Python.

    Every word for the device is quoted for its shell; nothing is interpreted there.

    Args:
        address: ``[USER@]HOST[:PORT]``, or a name of the user's ssh settings.
        ssh_config: File with ssh settings instead of the user's.
        python: Python on the device.
        **kwargs: See :class:`PythonTarget`.

    Raises:
        UserError: The address has another form.
    """

    kind = 'ssh'

    def __init__(
        self, address: str, ssh_config: str | None = None, python: str | None = None, **kwargs
    ) -> None:
        super().__init__([python or 'python3'], **kwargs)
        found = ADDRESS.fullmatch(address)
        if found is None:
            raise UserError(f'ssh:{address}: write ssh:USER@HOST or ssh:USER@HOST:PORT')
        self.address = address
        user, host, port = found['user'], found['host'].strip('[]'), found['port']
        self._ssh = ['ssh', *OPTIONS]
        if ssh_config is not None:
            self._ssh += ['-F', ssh_config]
        if port is not None:
            self._ssh += ['-p', port]
        self._ssh += ['--', f'{user}@{host}' if user else host]

    @property
    def name(self) -> str:
        """As on the command line."""
        return f'ssh:{self.address}'

    def command(self, words: Sequence[str]) -> list[str]:
        """``ssh`` with the words quoted for a POSIX shell."""
        return [*self._ssh, shlex.join(words)]

    def explain(self, code: int, message: str) -> str:
        """Say what ``ssh`` itself reports with 255, or what the device does."""
        if code != 255:
            return super().explain(code, message)
        found = advise(message, HINTS) or f'the connection was lost: {last_line(message)}'
        return f'{self.name}: {found}'
