"""What is installed here, what is known to break, and the one command that mends it.

Standard library only and importing nothing of this package: ``tools/doctor.py`` and
``tools/bootstrap.py`` load this file by its path, because they must run where neither PyTorch nor
MMDetection is installed. Every import that may crash happens in another process.

:func:`collect` looks at the machine and returns plain data ("facts"); :func:`diagnose` turns facts
into findings and touches nothing, so every finding can be tested on made-up facts.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Facts = dict[str, Any]

# Two sets of distributions that provide the same import names (mmdet, mmengine, mmcv).
LINES = {
    'openmmlab': ('mmdet', 'mmengine', 'mmcv'),
    'onedl': ('onedl-mmdetection', 'onedl-mmengine', 'onedl-mmcv'),
}
OTHER_PACKAGES = (
    'torch',
    'torchvision',
    'numpy',
    'pycocotools',
    'opencv-python',
    'opencv-python-headless',
    'safetensors',
    'setuptools',
    'pip',
    'wheel',
    'ninja',
    'pytest',
    'ruff',
    'hypothesis',
    'mmshuffle',
)
PROBES = (
    'pkg_resources',
    'torch',
    'cv2',
    'pycocotools',
    'mmcv_ext',
    'mmdet',
    'torchvision',
    'mmshuffle',
)
# setuptools 82 dropped pkg_resources; 77.0.3 is the first to know SPDX licence names.
BUILD_TOOLS = 'setuptools>=77.0.3,<82'
BOOTSTRAP = 'python3 tools/bootstrap.py env'

_WORKER = Path(__file__).with_name('_probe.py')


@dataclass(frozen=True)
class Finding:
    """One thing worth saying about an environment.

    Args:
        level: ``error`` (something will not run), ``warning`` or ``info``.
        code: a stable name for scripts.
        message: one line.
        fix: the one command that mends it, or None where nothing needs mending.
    """

    level: str
    code: str
    message: str
    fix: str | None = None


def _spawn(python: str, names: list[str], probes: list[str], timeout: float) -> tuple[list, str]:
    """Run the worker once; return its JSON lines and, if it died, a word on how."""
    command = [python, str(_WORKER), json.dumps([names, probes])]
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, errors='replace')
        text = done.stdout
        died = f'the process died with code {done.returncode}' if done.returncode else ''
    except subprocess.TimeoutExpired as e:
        # POSIX hands out the partial output undecoded whatever `errors` asks for.
        text = e.stdout or ''
        text = text.decode(errors='replace') if isinstance(text, bytes) else text
        died = f'no answer within {timeout:.0f} s'
    return [json.loads(line[2:]) for line in text.splitlines() if line.startswith('@@')], died


def probe(python: str, probes: tuple[str, ...] = PROBES, timeout: float = 120) -> Facts:
    """Ask an interpreter what is installed and which imports work.

    Args:
        python: path of the interpreter under examination.
        probes: names from :data:`PROBES`. Normally one process answers all; one that crashes or
            hangs is noted as failed and the rest is asked again in a new process.
        timeout: seconds for one process.

    Returns:
        ``python``, ``packages`` (distribution -> version or None), ``editable`` (mmshuffle's
        source URL or None), ``installed_at`` (mmshuffle's, seconds since the epoch, or None) and
        ``imports`` (probe -> ``ok``, ``error`` and details).

    Raises:
        OSError: ``python`` cannot be started.
        RuntimeError: it starts but is no working Python.
    """
    names = [name for line in LINES.values() for name in line] + list(OTHER_PACKAGES)
    facts: Facts = {'imports': {}}
    remaining = list(probes)
    while names or remaining:
        records, died = _spawn(python, names, remaining, timeout)
        started = [r['start'] for r in records if 'start' in r]
        for record in records:
            if 'packages' in record:
                facts.update(record)
            elif 'probe' in record:
                facts['imports'][record.pop('probe')] = record
        if 'packages' not in facts:
            raise RuntimeError(f'{python} is not a working Python 3.10 or newer ({died})')
        if died and started:
            facts['imports'].setdefault(started[-1], {'ok': False, 'error': died})
        names = []
        left = [name for name in remaining if name not in facts['imports']]
        # A worker that dies before its first probe would otherwise be asked forever.
        remaining = left if len(left) < len(remaining) else []
    return facts


def _compiler() -> str | None:
    """Return the C++ compiler PyTorch's extension builder would take, or None."""
    for name in (os.environ.get('CXX'), 'c++', 'g++', 'clang++', 'cl'):
        if name and (path := shutil.which(shlex.split(name)[0])):
            return path
    return None


def _memory_gib() -> float | None:
    """Return the machine's main memory in GiB where the system says it."""
    try:
        return round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def cores() -> int:
    """Return the number of cores this process may use (a container may have fewer than exist)."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def collect(python: str = sys.executable, probes: tuple[str, ...] = PROBES) -> Facts:
    """Return all facts about the machine and the given interpreter, as plain data."""
    return {
        'platform': platform.platform(),
        'machine': platform.machine(),
        'cores': cores(),
        'memory_gib': _memory_gib(),
        'compiler': _compiler(),
        **probe(python, probes),
    }


def lines_present(facts: Facts) -> list[str]:
    """Return the lines of which at least one distribution is installed."""
    packages = facts['packages']
    return [line for line, names in LINES.items() if any(packages.get(n) for n in names)]


def release(version: str) -> tuple[int, ...]:
    """Return the numeric part of a version: ``'2.13.0+cpu'`` -> ``(2, 13, 0)``."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(int(part) for part in match.group().split('.')) if match else ()


def venv_python(root: Path) -> Path:
    """Return where the interpreter of the project's own environment is or will be."""
    return root / '.venv' / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def project_python(root: Path) -> str:
    """Return the interpreter the project's commands use.

    The running one if it is a virtual (or conda) environment that has PyTorch; else the project's
    ``.venv`` if it was made; else the running one.
    """
    active = sys.prefix != sys.base_prefix or os.environ.get('CONDA_PREFIX') == sys.prefix
    venv = venv_python(root)
    if (active and find_spec('torch')) or not venv.exists():
        return sys.executable
    return str(venv)


class _Doctor:
    """The checks; each looks at the facts and appends at most a few findings."""

    def __init__(self, facts: Facts) -> None:
        self.packages: dict[str, str | None] = facts['packages']
        self.imports: dict[str, Facts] = facts['imports']
        self.facts = facts
        self.lines = lines_present(facts)
        self.pip = f'{shlex.quote(facts["python"]["executable"])} -m pip'
        self.findings: list[Finding] = []

    def add(self, level: str, code: str, message: str, fix: str | None = None) -> None:
        self.findings.append(Finding(level, code, message, fix))

    def works(self, name: str) -> bool:
        """An import that was not asked about counts as working."""
        return self.imports.get(name, {}).get('ok', True)

    def error(self, name: str) -> str:
        return self.imports[name].get('error', 'unknown error')

    def check_python(self) -> None:
        version = self.facts['python']['version']
        if release(version) < (3, 10):
            message = f'Python {version} is too old: mmshuffle needs 3.10 or newer'
            self.add('error', 'python-too-old', message, 'python3.10 tools/bootstrap.py env')

    def check_torch(self) -> None:
        if not self.packages.get('torch') and not self.works('torch'):
            self.add('error', 'no-torch', 'PyTorch is not installed', BOOTSTRAP)
        elif not self.works('torch'):
            message = f'PyTorch is installed but does not load: {self.error("torch")}'
            fix = f'{self.pip} install --force-reinstall torch=={self.packages["torch"]}'
            self.add('error', 'torch-broken', message, fix)

    def check_lines(self) -> None:
        names = [name for line in LINES.values() for name in line if self.packages.get(name)]
        if len(self.lines) == 2:
            message = (
                "both lines are installed and overwrite each other's files "
                f'(mmdet, mmengine, mmcv): {", ".join(names)}'
            )
            fix = f'{self.pip} uninstall -y {" ".join(names)} && {BOOTSTRAP}'
            self.add('error', 'both-lines', message, fix)
        elif not self.lines:
            self.add('error', 'no-mmdet', 'MMDetection is not installed', BOOTSTRAP)
        else:
            line = self.lines[0]
            missing = [name for name in LINES[line] if not self.packages.get(name)]
            if missing:
                message = f'the {line} line is incomplete: {", ".join(missing)} missing'
                self.add('error', 'incomplete-line', message, f'{BOOTSTRAP} --line {line}')

    def check_ops(self) -> None:
        """A wheel from pip's cache may be the faulty one, so the mending build avoids the cache."""
        name = 'mmcv' if self.lines == ['openmmlab'] else 'onedl-mmcv'
        version = self.packages.get(name)
        if len(self.lines) != 1 or not version or not self.works('torch') or self.works('mmcv_ext'):
            return
        error = self.error('mmcv_ext')
        how = 'was built without its compiled operations'
        if 'ModuleNotFoundError' not in error:
            how = f'was built for another PyTorch ({error})'
        options = '--no-build-isolation --no-cache-dir --force-reinstall --no-deps'
        fix = f'MMCV_WITH_OPS=1 {self.pip} install {options} {name}=={version}'
        self.add('error', 'mmcv-ops', f'{name} {version} {how}', fix)
        if not self.facts['compiler']:
            message = 'no C++ compiler found, and mmcv has to be built'
            self.add('warning', 'no-compiler', message, 'sudo apt-get install -y g++')

    def check_versions(self) -> None:
        """Bounds that MMDetection 3.3.0 itself asserts on import; the onedl line has none."""
        bounds = {'mmdet': ((3,), (4,)), 'mmengine': ((0, 7, 1), (1,)), 'mmcv': ((2,), (2, 2))}
        wanted = {'mmdet': '3.3.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0'}
        for name, (low, high) in bounds.items():
            version = self.packages.get(name)
            if version and not low <= release(version) < high:
                message = f'{name} {version} does not go with MMDetection 3.3.0'
                options = '--no-build-isolation ' if name == 'mmcv' else ''
                fix = f'{self.pip} install {options}{name}=={wanted[name]}'
                self.add('error', f'{name}-version', message, fix)

    def check_setuptools(self) -> None:
        version = self.packages.get('setuptools')
        if not self.packages.get('mmengine') or self.works('pkg_resources'):
            return
        message = (
            f'mmengine {self.packages["mmengine"]} needs pkg_resources for `mmdet::` configs; '
            f'setuptools {version or "(not installed)"} does not have it'
        )
        self.add('error', 'setuptools', message, f'{self.pip} install "{BUILD_TOOLS}"')

    def check_torchvision(self) -> None:
        if (
            self.packages.get('torchvision')
            and self.works('torch')
            and not self.works('torchvision')
        ):
            message = (
                'torchvision does not go with this PyTorch and stops training '
                f'({self.error("torchvision")}); nothing here needs it'
            )
            self.add('error', 'torchvision', message, f'{self.pip} uninstall -y torchvision')

    def check_libraries(self) -> None:
        if not self.works('cv2') and self.lines:
            message = f'OpenCV does not load: {self.error("cv2")}'
            fix = f'{self.pip} install --force-reinstall --no-deps opencv-python-headless'
            self.add('error', 'opencv', message, fix)
        if not self.works('pycocotools') and self.lines:
            message = f'pycocotools does not load: {self.error("pycocotools")}'
            self.add('error', 'pycocotools', message, f'{self.pip} install pycocotools')

    def check_checkpoints(self) -> None:
        torch, mmengine = self.packages.get('torch'), self.packages.get('mmengine')
        if torch and mmengine and release(torch) >= (2, 6) and release(mmengine) <= (0, 10, 7):
            message = (
                f'mmengine {mmengine} alone cannot load its own checkpoints on PyTorch {torch}; '
                'mmshuffle saves plain data, so nothing to mend'
            )
            self.add('info', 'checkpoints', message)

    def check_package(self) -> None:
        """Last, because anything above may be the reason why the imports fail."""
        if any(finding.level == 'error' for finding in self.findings):
            return
        if not self.works('mmdet'):
            message = f'MMDetection does not load: {self.error("mmdet")}'
            self.add('error', 'mmdet-broken', message, BOOTSTRAP)
        elif not self.works('mmshuffle'):
            message = f'mmshuffle cannot be imported: {self.error("mmshuffle")}'
            fix = f'{self.pip} install --no-build-isolation -e .'
            self.add('error', 'mmshuffle', message, fix)


def diagnose(facts: Facts) -> list[Finding]:
    """Return the findings for facts as :func:`collect` gives them, the gravest first."""
    doctor = _Doctor(facts)
    doctor.check_python()
    doctor.check_torch()
    doctor.check_lines()
    doctor.check_ops()
    doctor.check_versions()
    doctor.check_setuptools()
    doctor.check_torchvision()
    doctor.check_libraries()
    doctor.check_checkpoints()
    doctor.check_package()
    return sorted(doctor.findings, key=lambda f: ('error', 'warning', 'info').index(f.level))
