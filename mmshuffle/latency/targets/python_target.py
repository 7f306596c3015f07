"""A device that has Python: the runner goes there and does the work."""

import contextlib
import functools
import io
import json
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmshuffle.errors import last_line
from mmshuffle.latency.device.bootstrap import TAKEN
from mmshuffle.latency.device.main import PATIENCE, STOP

from .base import DeviceError, Event, Place, Target

DEVICE = Path(__file__).parents[1] / 'device'
RUNNER = 'runner.pyz'
START = 'from runner.main import main\n\nmain()\n'
# Errors of the standard input and output that mean: the process at the other end has gone.
GONE = (BrokenPipeError, ConnectionError)


@functools.cache
def pack_runner() -> bytes:
    """The runner as a zip archive that Python runs like a script."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('__main__.py', START)
        for path in sorted(DEVICE.glob('*.py')):
            archive.writestr(f'runner/{path.name}', path.read_bytes())
    return packed.getvalue()


@functools.cache
def bootstrap_code() -> str:
    """The text for ``python3 -c`` that makes, fills and removes the folder on the device."""
    return (DEVICE / 'bootstrap.py').read_text(encoding='utf-8')


class PythonTarget(Target):
    """A device with Python.

    Args:
        python: Words that start Python on the device.
        parent: Folder on the device to work in; the system's for temporary files where empty.
        keep: Leave the files there.
    """

    def __init__(self, python: Sequence[str], parent: str = '', keep: bool = False) -> None:
        self.python = list(python)
        self.parent = parent
        self.keep = keep

    def command(self, words: Sequence[str]) -> list[str]:
        """The local command that runs ``words`` on the device, each word as it is."""
        return list(words)

    def environment(self) -> dict[str, str] | None:
        """Environment of the local command; this process's where None."""
        return None

    def explain(self, code: int, message: str) -> str:
        """Say in one line why a command failed.

        Args:
            code: Exit code of the local command; negative for a signal.
            message: Its standard error.
        """
        if code == 127:
            return f'{self.name}: no {self.python[0]} there: install Python or give --python'
        died = f'signal {-code}' if code < 0 else f'exit code {code}'
        return f'{self.name}: the command there ended with {died}: {last_line(message)}'

    def make_folder(self) -> Place:
        """Make the folder, see :meth:`Target.make_folder`."""
        return Place(**self._act('prepare', self.parent))

    def equip(self) -> None:
        """Send the runner."""
        self.send({RUNNER: pack_runner()})

    def remove_folder(self, folder: str) -> bool:
        """Remove the folder, see :meth:`Target.remove_folder`."""
        return self._act('remove', folder)['removed']

    def send(self, files: Mapping[str, Path | bytes]) -> None:
        """Put files into the folder, see :meth:`Target.send`; wheels are unpacked there."""
        sizes = [len(f) if isinstance(f, bytes) else f.stat().st_size for f in files.values()]
        if sum(sizes) > self.place.free:
            raise DeviceError(
                f'{self.name}: its disk is full: {sum(sizes) / 1e6:.0f} MB are to be sent, '
                f'{self.place.free / 1e6:.0f} MB are free; give another --device-folder, or '
                'measure fewer networks or sizes at a time'
            )
        self._act('unpack', self.place.folder, files=files)

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """Run a job, see :meth:`Target.run`."""
        self.send({'job.json': json.dumps(dict(job, keep=self.keep)).encode()})
        with self._start(f'{self.place.folder}/{RUNNER}', 'job.json') as (_, messages):
            for event in messages:
                if event['event'] == 'end':
                    return
                if event['event'] == 'problem':
                    raise DeviceError(f'{self.name}: {event["message"]}')
                yield event

    def _act(
        self, action: str, *arguments: str, files: Mapping[str, Path | bytes] | None = None
    ) -> dict[str, Any]:
        """Run an action of the bootstrap code on the device and return what it prints."""
        with self._start('-c', bootstrap_code(), action, *arguments) as (stdin, messages):
            # A device that stops reading, on a full disk, still says why.
            with contextlib.suppress(*GONE):
                if files:
                    _write_archive(stdin, files)
            result = next(messages)
            with contextlib.suppress(*GONE):
                stdin.write(TAKEN)
                stdin.flush()
        if 'problem' in result:
            raise DeviceError(f'{self.name}: {action} there failed: {result["problem"]}')
        return result

    @contextlib.contextmanager
    def _start(self, *words: str) -> Iterator[tuple[Any, Iterator[dict[str, Any]]]]:
        """Start Python on the device; however the block is left, it has then ended.

        Yields:
            Its standard input, and what it prints.
        """
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
        """JSON objects that a process prints; its end comes too early for whoever still reads.

        Raises:
            DeviceError: It ended.
        """
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


def _write_archive(file: Any, files: Mapping[str, Path | bytes]) -> None:
    with tarfile.open(fileobj=file, mode='w|', dereference=True) as archive:
        for name, content in files.items():
            if isinstance(content, bytes):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                archive.add(content, name)
    file.flush()


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
