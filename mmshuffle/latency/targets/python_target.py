"""A device that has Python: the runner goes there and does the work."""

import contextlib
import io
import json
import subprocess
import tarfile
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mmshuffle.latency.device.main import PATIENCE, STOP
from mmshuffle.latency.packing import RUNNER, bootstrap_code, pack_runner

from .base import DeviceError, Event, Place, Target

# Errors of the standard input and output that mean: the process at the other end has gone.
GONE = (BrokenPipeError, ConnectionError)


class PythonTarget(Target):
    """A device with Python.

    Args:
        parent: Folder on the device to work in; the system's for temporary files where empty.
        keep: Leave the files there.
    """

    def __init__(self, parent: str = '', keep: bool = False) -> None:
        self.parent = parent
        self.keep = keep
        self.place: Place | None = None

    @property
    @abstractmethod
    def python(self) -> list[str]:
        """Words that start Python on the device."""

    @abstractmethod
    def command(self, words: Sequence[str]) -> list[str]:
        """The local command that runs ``words`` on the device, each word as it is."""

    def environment(self) -> dict[str, str] | None:
        """Environment of the local command; this process's where None."""
        return None

    def explain(self, code: int, message: str) -> str:
        """Say in one line why a command failed.

        Args:
            code: Exit code of the local command; negative for a signal.
            message: Its standard error.
        """
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        if code == 127:
            return f'{self.name}: no {self.python[0]} there: install Python or give --python'
        died = f'signal {-code}' if code < 0 else f'exit code {code}'
        last = f': {lines[-1]}' if lines else ' and no message'
        return f'{self.name}: the command there ended with {died}{last}'

    def __enter__(self) -> 'PythonTarget':
        """Make the folder and send the runner."""
        self.place = Place(**self._act('prepare', self.parent))
        try:
            self.send({RUNNER: pack_runner()})
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the folder; where that fails, say where it is, unless something else failed."""
        if self.keep or self.place is None:
            return
        folder, self.place = self.place.folder, None
        try:
            removed = self._act('remove', folder)['removed']
        except DeviceError:
            removed = False
        if not removed and error is None:
            raise DeviceError(f'{self.name}: {folder} could not be removed: remove it by hand')

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

    def _act(
        self, action: str, *arguments: str, files: Mapping[str, Path | bytes] | None = None
    ) -> dict[str, Any]:
        """Run an action of the bootstrap code on the device and return what it prints."""
        words = [*self.python, '-c', bootstrap_code(), action, *arguments]
        with tempfile.TemporaryFile() as errors:
            process = self._start(words, errors)
            # A device that stops reading, on a full disk, still says why.
            with contextlib.suppress(*GONE), process.stdin as stdin:
                _write_archive(stdin, files or {})
            output = process.stdout.read().decode(errors='replace')
            process.stdout.close()
            code = process.wait()
            errors.seek(0)
            message = errors.read().decode(errors='replace')
        # A login shell may greet in front of it.
        lines = output.strip().splitlines()
        if code != 0 or not lines or not lines[-1].startswith('{'):
            raise DeviceError(self.explain(code, message))
        result = json.loads(lines[-1])
        if 'problem' in result:
            raise DeviceError(f'{self.name}: {action} there failed: {result["problem"]}')
        return result

    def _start(self, words: Sequence[str], errors: Any) -> subprocess.Popen:
        try:
            return subprocess.Popen(
                self.command(words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self.environment(),
                # Ctrl-C is for this process, which then ends the other one in good order.
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f'{error.filename} cannot be started: {error.strerror}') from None

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """Run a job, see :meth:`Target.run`."""
        self.send({'job.json': json.dumps(dict(job, keep=self.keep)).encode()})
        words = [*self.python, f'{self.place.folder}/{RUNNER}', 'job.json']
        with tempfile.TemporaryFile() as errors:
            process = self._start(words, errors)
            try:
                yield from self._events(process, errors)
            finally:
                _end(process)

    def _events(self, process: subprocess.Popen, errors: Any) -> Iterator[Event]:
        for line in process.stdout:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a greeting of the login shell, or a line that was cut off
            if event['event'] == 'end':
                return
            if event['event'] == 'problem':
                raise DeviceError(f'{self.name}: {event["message"]}')
            yield event
        code = process.wait()
        errors.seek(0)
        raise DeviceError(self.explain(code, errors.read().decode(errors='replace')))


def _write_archive(file: Any, files: Mapping[str, Path | bytes]) -> None:
    with tarfile.open(fileobj=file, mode='w|') as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.size = content.stat().st_size
                with content.open('rb') as source:
                    archive.addfile(member, source)


def _end(process: subprocess.Popen) -> None:
    """Ask the runner to stop, and see to it that it does."""
    with contextlib.suppress(*GONE), process.stdin as stdin:
        stdin.write(f'{STOP}\n'.encode())
    try:
        process.wait(PATIENCE + 5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
