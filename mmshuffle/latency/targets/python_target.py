"""A device that has Python, this machine or another: the runner goes there and does the work."""

import contextlib
import json
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import zipapp
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmshuffle.errors import UserError, last_line
from mmshuffle.latency.device.bootstrap import TAKEN
from mmshuffle.latency.device.main import PATIENCE, STOP

from .base import DeviceError, Event, Target, advise

DEVICE = Path(__file__).parents[1] / 'device'
# For ``python3 -c``: makes, fills and removes the folder on the device.
BOOTSTRAP = (DEVICE / 'bootstrap.py').read_text(encoding='utf-8')
RUNNER = 'runner.pyz'
# Errors of the standard input and output that mean: the process at the other end has gone.
GONE = (BrokenPipeError, ConnectionError)
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


def pack_runner(path: Path) -> None:
    """Write the runner as a zip archive that Python runs like a script."""
    wanted = dict(filter=lambda name: name.match('device/*.py'), main='device.main:main')
    zipapp.create_archive(DEVICE.parent, path, compressed=True, **wanted)


class PythonTarget(Target):
    """A device with Python: what the machines below have in common.

    Args:
        python: Words that start Python on the device.
        parent: Folder on the device to work in; the system's for temporary files where empty.
        keep: Leave the files there.
    """

    def __init__(self, python: Sequence[str], parent: str = '', keep: bool = False) -> None:
        self.python, self.parent, self.keep = list(python), parent, keep

    def command(self, words: Sequence[str]) -> list[str]:
        """The local command that runs ``words`` on the device, each word as it is."""
        return list(words)

    def environment(self) -> dict[str, str] | None:
        """Environment of the local command; this process's where None."""
        return None

    def explain(self, code: int, message: str) -> str:
        """Say in one line why the local command failed; ``code`` is negative for a signal."""
        if code == 127:
            return f'{self.name}: no {self.python[0]} there: install Python or give --python'
        died = f'signal {-code}' if code < 0 else f'exit code {code}'
        return f'{self.name}: the command there ended with {died}: {last_line(message)}'

    def make_folder(self) -> dict[str, Any]:
        return self._act('prepare', self.parent)

    def remove_folder(self, folder: str) -> bool:
        return self._act('remove', folder)['removed']

    def send(self, files: Mapping[str, Path]) -> None:
        """As of every target; wheels are unpacked there."""
        size = sum(path.stat().st_size for path in files.values())
        if size > self.place['free']:
            raise DeviceError(
                f'{self.name}: its disk is full: {size / 1e6:.0f} MB are to be sent, '
                f'{self.place["free"] / 1e6:.0f} MB are free; give another --device-folder, or '
                'measure fewer networks or sizes at a time'
            )
        self._act('unpack', self.place['folder'], files=files)

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        with tempfile.TemporaryDirectory() as folder:
            runner, asked = Path(folder, RUNNER), Path(folder, 'job.json')
            pack_runner(runner)
            asked.write_text(json.dumps(dict(job, keep=self.keep)))
            self.send({path.name: path for path in (runner, asked)})
        with self._start(f'{self.place["folder"]}/{RUNNER}', 'job.json') as (_, messages):
            for event in messages:
                if event['event'] == 'end':
                    return
                if event['event'] == 'problem':
                    raise DeviceError(f'{self.name}: {event["message"]}')
                yield event

    def _act(
        self, action: str, *arguments: str, files: Mapping[str, Path] | None = None
    ) -> dict[str, Any]:
        """Run an action of the bootstrap code on the device and return what it prints."""
        with self._start('-c', BOOTSTRAP, action, *arguments) as (stdin, messages):
            # A device that stops reading, on a full disk, still says why.
            with contextlib.suppress(*GONE):
                if files:
                    with tarfile.open(fileobj=stdin, mode='w|', dereference=True) as archive:
                        for name, path in files.items():
                            archive.add(path, name)
                    stdin.flush()
            result = next(messages)
            with contextlib.suppress(*GONE):
                stdin.write(TAKEN)
                stdin.flush()
        if 'problem' in result:
            raise DeviceError(f'{self.name}: {action} there failed: {result["problem"]}')
        return result

    @contextlib.contextmanager
    def _start(self, *words: str) -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
        """Start Python on the device, with its input and what it prints; it ends with the block."""
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self.command([*self.python, *words]),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self.environment(),
                    # Ctrl-C is for this process, which then ends the other one in good order.
                    start_new_session=True,
                )
            except OSError as error:
                raise DeviceError(f'{error.filename} cannot be started: {error.strerror}') from None
            try:
                yield process.stdin, self._messages(process, errors)
            finally:
                _end(process)

    def _messages(self, process: subprocess.Popen, errors: Any) -> Iterator[dict[str, Any]]:
        """JSON objects that a process prints; for whoever reads on, its end is an error."""
        for line in process.stdout:
            try:
                content = json.loads(line)
            except ValueError:
                continue  # a greeting of the login shell, or a line that was cut off
            if isinstance(content, dict):
                yield content
        code = process.wait()
        errors.seek(0)
        raise DeviceError(self.explain(code, errors.read().decode(errors='replace')))


def _end(process: subprocess.Popen) -> None:
    """Ask a process on the device to stop, and see to it that it does."""
    with contextlib.suppress(*GONE), process.stdin as stdin:
        stdin.write(f'{STOP}\n'.encode())
    try:
        process.wait(PATIENCE + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


class LocalTarget(PythonTarget):
    """This machine, with the Python that runs here or another."""

    kind = 'local'

    def __init__(self, python: str | None = None, **kwargs) -> None:
        super().__init__([python or sys.executable], **kwargs)


class SSHTarget(PythonTarget):
    """A device with an ssh server and Python, where no shell interprets a word from here.

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
        return f'ssh:{self.address}'

    def command(self, words: Sequence[str]) -> list[str]:
        return [*self._ssh, shlex.join(words)]

    def explain(self, code: int, message: str) -> str:
        if code != 255:  # which is what ssh itself ends with
            return super().explain(code, message)
        found = advise(message, HINTS) or f'the connection was lost: {last_line(message)}'
        return f'{self.name}: {found}'
