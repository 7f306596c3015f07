"""What is installed, what is known to break, and the one command that fixes it.

Standard library only, and nothing of this package: ``tools/doctor.py`` and ``tools/bootstrap.py``
import this file without its package, because they must run where PyTorch or MMDetection is missing
or broken. :func:`collect` runs this same file in the interpreter under examination and returns
plain data ("facts"); :func:`diagnose` turns facts into findings and touches nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.machinery
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

Facts = dict[str, Any]

# Two sets of distributions that provide the same import names (mmdet, mmengine, mmcv).
LINES = {
    'openmmlab': ('mmdet', 'mmengine', 'mmcv'),
    'onedl': ('onedl-mmdetection', 'onedl-mmengine', 'onedl-mmcv'),
}
PACKAGES = (
    *('torch', 'torchvision', *LINES['openmmlab'], *LINES['onedl'], 'mmshuffle', 'numpy'),
    *('opencv-python', 'opencv-python-headless', 'pycocotools', 'setuptools', 'pip'),
)
# In this order: what may crash comes after what others need.
IMPORTS = (
    *('pkg_resources', 'cv2', 'pycocotools', 'torch', 'torchvision', 'mmcv_ext', 'mmdet'),
    'mmshuffle',
)
# setuptools 82 dropped pkg_resources; 77.0.3 is the first to know SPDX licence names.
BUILD_TOOLS = 'setuptools>=77.0.3,<82'
# torch.library.custom_op, with which detectors are exported, is new in 2.4.
LOWEST_TORCH = '2.4'
# From here on PyTorch's headers are C++20, while mmcv's setup.py asks for C++17.
CXX20_TORCH = '2.14'
# Bounds that MMDetection 3.3.0 asserts on import, and the versions that work together.
VERSIONS = {
    'mmdet': ('3', '4', '3.3.0'),
    'mmengine': ('0.7.1', '1', '0.10.7'),
    'mmcv': ('2', '2.2', '2.1.0'),
}
BOOTSTRAP = 'python3 tools/bootstrap.py env'


@dataclass(frozen=True)
class Finding:
    """One fault: a stable name for scripts, one line, and the one command that fixes it."""

    code: str
    message: str
    fix: str


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a tool's docstring for its help."""

    def __init__(self, text: str) -> None:
        description, _, rest = text.partition('\n\n')
        layout = argparse.RawTextHelpFormatter
        super().__init__(description=description, epilog=rest, formatter_class=layout)

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f'{self.prog}: {message} (see --help)\n')


def release(version: str) -> tuple[int, ...]:
    """Return the numeric part of a version: ``'2.13.0+cpu'`` -> ``(2, 13, 0)``."""
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, match.group().split('.'))) if match else ()


def needs_cxx20(torch_version: str | None) -> bool:
    """Tell whether mmcv's own C++17 build fails against this PyTorch."""
    return bool(torch_version) and release(torch_version) >= release(CXX20_TORCH)


def wheel_folder(torch_version: str) -> str:
    """Return the name of the folder where the bootstrap keeps an mmcv built for this PyTorch."""
    return f'torch-{torch_version}'


def cores() -> int:
    """Return the number of cores this process may use (a container may have fewer than exist)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def compiler() -> list[str] | None:
    """Return the command of the C++ compiler that PyTorch's builder would take, or None."""
    for name in (os.environ.get('CXX'), 'c++', 'g++', 'clang++', 'cl'):
        words = shlex.split(name or '')
        if words and shutil.which(words[0]):
            return words
    return None


def choose_python(root: Path) -> str:
    """Return the interpreter that the project's commands use, which may have to be made.

    The running one if it has PyTorch and is a virtual or conda environment, or is a plain one that
    no package manager of the system owns while ``root/.venv`` does not exist; else that of
    ``root/.venv``.
    """
    venv = root / '.venv' / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    active = sys.prefix != sys.base_prefix or os.environ.get('CONDA_PREFIX') == sys.prefix
    managed = Path(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED').exists()
    if find_spec('torch') and (active or not (managed or venv.exists())):
        return sys.executable
    return str(venv)


def collect(
    python: str = sys.executable,
    imports: tuple[str, ...] = IMPORTS,
    requirements: tuple[str, ...] = (),
    timeout: float = 600,
) -> Facts:
    """Examine an interpreter in another process, and the machine.

    Args:
        python: path of the interpreter.
        imports: names from :data:`IMPORTS`, tried in turn. One that crashes or hangs is noted as
            failed; those behind it stay unknown.
        requirements: pip requirements; with extras, such as ``mmshuffle[dev]``, all that the
            installed package's metadata asks for.
        timeout: seconds.

    Returns:
        ``platform``, ``cores``, ``compiler``, ``python``, ``packages`` (distribution to version or
        None), ``editable`` (mmshuffle's source URL or None), ``installed_at`` (mmshuffle's, in
        seconds since the epoch, or None), ``unmet`` (of the requirements), ``imports`` (name to
        error or None) and ``details`` (mmengine's ``collect_env``; empty where it fails).

    Raises:
        OSError: ``python`` cannot be started.
        RuntimeError: it starts but is no working Python.
    """
    command = [python, __file__, json.dumps([imports, requirements])]
    died = None
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout)
        output, code = done.stdout, done.returncode
        died = f'the process died with code {code}' if code else None
    except subprocess.TimeoutExpired as error:
        output, died = error.stdout or b'', f'no answer within {timeout:.0f} s'
    facts: Facts = {
        'platform': platform.platform(),
        'cores': cores(),
        'compiler': shlex.join(compiler() or ()) or None,
        'imports': {},
        'details': {},
    }
    for line in output.decode(errors='replace').splitlines():
        if line.startswith('@@'):
            record = json.loads(line[2:])
            facts['imports'].update(record.pop('imports', {}))
            facts.update(record)
    if 'packages' not in facts:
        raise RuntimeError(f'{python} is not a working Python 3.10 or newer ({died})')
    left = [name for name in imports if name not in facts['imports']]
    if died and left:
        facts['imports'][left[0]] = died
    return facts


def lines_present(facts: Facts) -> list[str]:
    """Return the lines of which at least one distribution is installed."""
    return [line for line, names in LINES.items() if any(facts['packages'][n] for n in names)]


def diagnose(facts: Facts) -> list[Finding]:
    """Return the findings for facts as :func:`collect` gives them.

    An import that was not tried counts as working. What follows from another fault is left out.
    """
    findings = [Finding(*finding) for finding in _findings(facts)]
    reinstall = f'{_pip(facts)} install --no-build-isolation -e .'
    for name, fix in (('mmdet', BOOTSTRAP), ('mmshuffle', reinstall)):
        if not findings and (error := facts['imports'].get(name)):
            findings.append(Finding(name, f'{name} cannot be imported: {error}', fix))
    return findings


def _pip(facts: Facts) -> str:
    return f'{shlex.quote(facts["python"]["executable"])} -m pip'


def _findings(facts: Facts) -> Iterator[tuple[str, str, str]]:
    packages, failed, pip = facts['packages'], facts['imports'].get, _pip(facts)
    python, torch, lines = facts['python']['version'], packages['torch'], lines_present(facts)
    if release(python) < (3, 10):
        message = f'Python {python} is too old: mmshuffle needs 3.10 or newer'
        yield 'python', message, 'python3.10 tools/bootstrap.py env'

    if not torch and failed('torch'):
        yield 'no-torch', 'PyTorch is not installed', BOOTSTRAP
    elif error := failed('torch'):
        message = f'PyTorch is installed but does not load: {error}'
        yield 'torch-broken', message, f'{pip} install --force-reinstall torch=={torch}'
    elif torch and release(torch) < release(LOWEST_TORCH):
        message = f'PyTorch {torch} is too old: mmshuffle needs {LOWEST_TORCH} or newer'
        yield 'torch-version', message, f'{pip} install "torch>={LOWEST_TORCH}" && {BOOTSTRAP}'

    present = [name for line in LINES.values() for name in line if packages[name]]
    if len(lines) == 2:
        message = f"both lines are installed and overwrite each other's files: {', '.join(present)}"
        yield 'both-lines', message, f'{pip} uninstall -y {" ".join(present)} && {BOOTSTRAP}'
    elif not lines:
        yield 'no-mmdet', 'MMDetection is not installed', BOOTSTRAP
    elif missing := [name for name in LINES[lines[0]] if not packages[name]]:
        message = f'the {lines[0]} line is incomplete: {", ".join(missing)} missing'
        yield 'incomplete-line', message, f'{BOOTSTRAP} --line {lines[0]}'
    elif not failed('torch') and (error := failed('mmcv_ext')):
        # pip's cache may hold the faulty wheel, so the build that fixes it goes around the cache.
        name = LINES[lines[0]][2]
        how = 'was built without its compiled operations'
        if 'ModuleNotFoundError' not in error:
            how = f'was built for another PyTorch than {torch} ({error})'
        options = '--no-build-isolation --no-cache-dir --force-reinstall --no-deps'
        fix = f'MMCV_WITH_OPS=1 {pip} install {options} {name}=={packages[name]}'
        if needs_cxx20(torch):
            how += f'; PyTorch {torch} needs a build as C++20'
            fix = f'{BOOTSTRAP} --line {lines[0]}'
        compiler_first = '' if facts['compiler'] else 'sudo apt-get install -y g++ && '
        yield 'mmcv-ops', f'{name} {packages[name]} {how}', compiler_first + fix

    for name, (low, high, good) in VERSIONS.items():
        version = packages[name]
        if version and not release(low) <= release(version) < release(high):
            message = f'{name} {version} does not go with MMDetection 3.3.0'
            options = '--no-build-isolation ' if name == 'mmcv' else ''
            yield f'{name}-version', message, f'{pip} install {options}{name}=={good}'
    if packages['mmengine'] and failed('pkg_resources'):
        message = (
            f'mmengine {packages["mmengine"]} needs pkg_resources for `mmdet::` configs; '
            f'setuptools {packages["setuptools"] or "(not installed)"} does not have it'
        )
        yield 'setuptools', message, f'{pip} install "{BUILD_TOOLS}"'
    if packages['torchvision'] and not failed('torch') and (error := failed('torchvision')):
        message = f'torchvision does not go with this PyTorch and stops training ({error})'
        yield 'torchvision', f'{message}; nothing here needs it', f'{pip} uninstall -y torchvision'
    for name, title, fix in (
        ('cv2', 'OpenCV', 'install --force-reinstall --no-deps opencv-python-headless'),
        ('pycocotools', 'pycocotools', 'install pycocotools'),
    ):
        if lines and (error := failed(name)):
            yield name, f'{title} does not load: {error}', f'{pip} {fix}'


# What follows runs in the interpreter under examination.


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _origin(name: str) -> dict[str, Any]:
    """Return where pip installed a distribution from (PEP 610); empty for an index."""
    found = next(iter(metadata.distributions(name=name)), None)
    return json.loads((found and found.read_text('direct_url.json')) or '{}')


def _unmet(requirement: str) -> bool:
    """Tell whether a requirement is not met, by pip's rules; without pip none is."""
    try:
        from pip._vendor.packaging.requirements import Requirement
    except ImportError:
        return True
    wanted = Requirement(requirement)
    installed = _version(wanted.name)
    if not installed or not wanted.specifier.contains(installed, prereleases=True):
        return True
    for extra in wanted.extras:
        for needed in map(Requirement, metadata.requires(wanted.name) or ()):
            if needed.marker is None or needed.marker.evaluate({'extra': extra}):
                needed.marker = None
                if _unmet(str(needed)):
                    return True
    return False


def _try_import(name: str) -> None:
    if name != 'mmcv_ext':
        importlib.import_module(name)
        return
    import torch

    # A module that was built for another PyTorch may load and run all the same.
    for _, _, name in LINES.values():
        folder = unquote(_origin(name).get('url', '')).rpartition('/')[0].rpartition('/')[2]
        if folder.startswith('torch-') and folder != wheel_folder(_version('torch')):
            raise ImportError(f'its wheel comes from {folder}')
    # By path: other faults of mmcv cannot hide this one.
    mmcv = find_spec('mmcv')
    places = mmcv.submodule_search_locations if mmcv else []
    spec = importlib.machinery.PathFinder.find_spec('mmcv._ext', places)
    if spec is None:
        raise ModuleNotFoundError("No module named 'mmcv._ext'")
    operations = module_from_spec(spec)
    spec.loader.exec_module(operations)
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 7.0, 7.0]])
    kept = operations.nms(boxes, torch.tensor([0.5, 0.9, 0.7]), iou_threshold=0.5, offset=0)
    if kept.tolist() != [1, 2]:
        raise RuntimeError('its nms keeps the wrong boxes')


def _answer(imports: list[str], requirements: list[str]) -> None:
    def say(**fields: Any) -> None:
        print('@@' + json.dumps(fields), flush=True)  # at once: the next import may crash

    # What merely lies in the working directory or beside this file is not installed.
    not_installed = ('', os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in sys.path if path not in not_installed]
    found = next(iter(metadata.distributions(name='mmshuffle')), None)
    origin = _origin('mmshuffle')
    records = [file.locate() for file in (found and found.files) or () if file.name == 'RECORD']
    say(
        python={'version': sys.version.split()[0], 'executable': sys.executable},
        packages={name: _version(name) for name in PACKAGES},
        editable=origin.get('url') if origin.get('dir_info', {}).get('editable') else None,
        installed_at=max((os.path.getmtime(path) for path in records), default=None),
        unmet=[requirement for requirement in requirements if _unmet(requirement)],
    )
    for name in imports:
        error = None
        try:
            _try_import(name)
        except BaseException as e:
            error = f'{type(e).__name__}: {(str(e).strip().splitlines() or [""])[0][:300]}'
        say(imports={name: error})
    if 'mmdet' in imports:
        with contextlib.suppress(Exception):  # what is broken has been said
            from mmengine.utils.dl_utils import collect_env

            say(details={name: str(value) for name, value in collect_env().items()})


if __name__ == '__main__':
    _answer(*json.loads(sys.argv[1]))
