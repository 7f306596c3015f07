"""A 64-bit ARM system in a folder, whose programs QEMU translates one process at a time."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmshuffle.errors import UserError, last_line
from mmshuffle.latency.device.counts import FILE

from .base import DeviceError, Event
from .python_target import PythonTarget

QEMU = ('qemu-aarch64', 'qemu-aarch64-static')
PLUGIN = Path(__file__).with_name('count.c')
# What makes a count depend on the machine or on the run: threads, and the order of Python's sets.
SERIAL = dict(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1', PYTHONHASHSEED='0')
# What `prepare` fetches: Debian 12's Python is 3.11; counts are those of these packages.
PACKAGES = ('python3', 'libgomp1', 'libstdc++6')
WHEELS = ('numpy', 'ncnn==1.0.20261020', 'onnxruntime==1.22.1', 'ai-edge-litert==2.1.6')
PIP_OPTIONS = (
    *('--no-deps', '--only-binary=:all:', '--python-version=3.11', '--disable-pip-version-check'),
    *(
        f'--platform={name}_aarch64'
        for name in ('manylinux_2_28', 'manylinux_2_27', 'manylinux2014')
    ),
)
# Runtimes fit their tiles to the caches, and their code to the cores, that the system tells of:
# without these files that would be this machine's. A Raspberry Pi 5: name, type and KiB of caches.
CORES = 4
CACHES = ((1, 'Data', 64), (1, 'Instruction', 64), (2, 'Unified', 512), (3, 'Unified', 2048))
CPUINFO = (
    'processor\t: {}\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\n'
    'CPU part\t: 0xd0b\nCPU revision\t: 1\n\n'
)


class EmulatedTarget(PythonTarget):
    """An emulated device, which shows what a runtime's ARM code computes and what it executes.

    Its times are those of a translation: they say nothing about any ARM processor.

    Args:
        root: Folder of the system, with Python in ``usr/bin``; see :func:`prepare`.
        cpu: Processor to be emulated, see ``qemu-aarch64 -cpu help``.
        **kwargs: See :class:`PythonTarget`.

    Raises:
        UserError: QEMU is missing, or the folder has no Python.
    """

    kind = 'emulated'
    emulated = True

    def __init__(self, root: str | None = None, cpu: str = 'cortex-a76', **kwargs) -> None:
        if root is None:
            raise UserError('the target emulated needs --root, a folder that --prepare has filled')
        found = [path for path in map(shutil.which, QEMU) if path]
        if not found:
            raise UserError('the target emulated needs QEMU: apt-get install qemu-user')
        python = Path(root, 'usr/bin/python3').resolve()
        if not python.is_file():
            raise UserError(f'--root {root}: no usr/bin/python3 there; fill it with --prepare')
        qemu = [found[0], '-cpu', cpu, '-L', str(Path(root).resolve())]
        super().__init__([*qemu, str(python)], **kwargs)
        self._compiled: tempfile.TemporaryDirectory | None = None

    def environment(self) -> dict[str, str]:
        """As little as possible: the size of the environment alone shifts every address."""
        return {key: os.environ[key] for key in ('TMPDIR',) if key in os.environ} | SERIAL

    def probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request['what'] == 'count':
            self._plugin()  # what is missing for it is told before anything is exported
        return super().probe(request)

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """As of every target; ``count`` runs under the plugin, each network in its own process."""
        if job['what'] != 'count':
            yield from super().run(job)
            return
        plain, counts = self.python, Path(self.place['folder'], FILE)
        self.python = [plain[0], '-plugin', f'{self._plugin()},out={counts}', *plain[1:]]
        try:
            for run in job['runs']:
                yield from super().run(dict(job, runs=[run]))
        finally:
            self.python = plain

    def _plugin(self) -> Path:
        """The plugin that counts, compiled once a target."""
        if self._compiled is None:
            folder = tempfile.TemporaryDirectory()
            compile_plugin(Path(folder.name, 'count.so'))
            self._compiled = folder
        return Path(self._compiled.name, 'count.so')

    def explain(self, code: int, message: str) -> str:
        if 'plugin' not in last_line(message):
            return super().explain(code, message)
        needed = 'qemu-aarch64 (not -static) of version 4.2 to 8.2'
        return f'QEMU cannot load the plugin that counts: {last_line(message)}; it needs {needed}'


def compile_plugin(library: Path) -> None:
    """Compile the plugin that counts.

    Raises:
        UserError: There is no compiler, or only a QEMU without plugins.
    """
    if shutil.which(QEMU[0]) is None:
        raise UserError(f'--count needs {QEMU[0]}, not -static: apt-get install qemu-user')
    try:
        command = ['gcc', '-O2', '-shared', '-fPIC', '-o', str(library), str(PLUGIN)]
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        raise UserError('--count compiles a plugin of QEMU: apt-get install gcc') from None
    if done.returncode != 0:
        raise DeviceError(f'gcc cannot compile {PLUGIN.name}: {last_line(done.stderr)}')


def prepare(folder: Path, progress: Callable[[float], None]) -> None:
    """Fill a folder, which appears when all is there, with an arm64 system, and wheels for it.

    Raises:
        UserError: The folder is there, or a program or a download is missing.
    """
    if folder.exists():
        raise UserError(f'--prepare {folder}: it exists; remove it or name another folder')
    debootstrap = shutil.which('debootstrap') or shutil.which('/usr/sbin/debootstrap')
    if debootstrap is None or shutil.which('dpkg') is None:
        raise UserError('--prepare needs Debian or Ubuntu and: apt-get install debootstrap')
    fakeroot = [] if os.getuid() == 0 else [shutil.which('fakeroot')]
    if None in fakeroot:
        raise UserError('--prepare needs fakeroot, or root: apt-get install fakeroot')
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as made:
        root = Path(made, 'root')
        _run(
            *(*fakeroot, debootstrap, '--foreign', '--variant=minbase', '--arch=arm64'),
            *(f'--include={",".join(PACKAGES)}', 'bookworm', str(root)),
        )
        progress(0.4)
        # The second stage of debootstrap would run ARM programs as root; files are enough.
        packages = sorted(root.glob('var/cache/apt/archives/*.deb'))
        for number, package in enumerate(packages):
            _run('dpkg', '-x', str(package), str(root))
            package.unlink()
            progress(0.4 + 0.3 * number / len(packages))
        describe_cores(root)
        pip = sys.executable, '-m', 'pip', 'download', '-d', str(root / 'wheels')
        _run(*pip, *PIP_OPTIONS, *WHEELS)
        root.replace(folder)


def describe_cores(root: Path) -> None:
    """Write the files below ``proc`` and ``sys`` that runtimes read about the processor."""
    sys_cpu = 'sys/devices/system/cpu'
    everything = f'0-{CORES - 1}'
    files = {f'{sys_cpu}/{name}': everything for name in ('online', 'possible', 'present')}
    files['proc/cpuinfo'] = ''.join(map(CPUINFO.format, range(CORES)))
    for core in range(CORES):
        folder = f'{sys_cpu}/cpu{core}'
        files |= {f'{folder}/cpufreq/cpuinfo_{end}_freq': '2400000' for end in ('min', 'max')}
        for number, (level, kind, size) in enumerate(CACHES):
            sharing = f'{2**CORES - 1:x}' if level == 3 else f'{1 << core:x}'
            facts = dict(level=level, type=kind, size=f'{size}K', shared_cpu_map=sharing)
            files |= {f'{folder}/cache/index{number}/{key}': facts[key] for key in facts}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{text}\n')


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise UserError(
            f'--prepare: {Path(command[0]).name} failed: {last_line(done.stderr or done.stdout)}'
        )
