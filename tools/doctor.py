#!/usr/bin/env python3
"""Say what is installed, what is broken and the one command that fixes each fault.

Examples:
    python3 tools/doctor.py
    python3 tools/doctor.py --json > environment.json

Exit code: 0 when nothing stands in the way, 1 when something does, 2 for bad arguments.
"""

# The standard library alone, because this runs where PyTorch or MMDetection is missing or broken.
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
from collections import namedtuple
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parent.parent
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
IMPORTS = ('pkg_resources', 'cv2', 'pycocotools', 'torch', 'torchvision', 'mmcv_ext')
IMPORTS += ('mmdet', 'mmshuffle')
# setuptools 82 dropped pkg_resources; 77.0.3 is the first to know SPDX licence names.
SETUPTOOLS = 'setuptools>=77.0.3,<82'
# torch.library.custom_op, with which detectors are exported, is new in 2.4.
LOWEST_TORCH = '2.4'
# From here on PyTorch's headers are C++20, while mmcv's setup.py asks for C++17.
CXX20_TORCH = (2, 14)
# Bounds that MMDetection 3.3.0 asserts on import, and the versions that work together.
VERSIONS = {
    'mmdet': ('3', '4', '3.3.0'),
    'mmengine': ('0.7.1', '1', '0.10.7'),
    'mmcv': ('2', '2.2', '2.1.0'),
}
BOOTSTRAP = 'python3 tools/bootstrap.py env'
# One fault: a stable name for scripts, one line, and the one command that fixes it.
Finding = namedtuple('Finding', 'code message fix')


def show(text: str, stream: IO | None = None) -> None:
    """Print a text, also where nobody reads any more, as behind ``| head``."""
    stream = stream or sys.stdout
    try:
        print(text, end='', file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a tool's docstring for its help."""

    def __init__(self, text: str) -> None:
        super().__init__(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f'{self.prog}: {message} (see --help)\n')

    def _print_message(self, message: str, file: IO | None = None) -> None:
        show(message, file)


def release(version: str) -> tuple[int, ...]:
    """Return the numeric part of a version: ``'2.13.0+cpu'`` -> ``(2, 13, 0)``."""
    return tuple(map(int, re.findall(r'\d+', re.split(r'[^\d.]', version)[0])))


def cores() -> int:
    """Return the number of cores this process may use (a container may have fewer than exist)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def choose_python() -> str:
    """Return the interpreter that the project's commands use, which may have to be made.

    The running one if it has PyTorch and is a virtual or conda environment, or is a plain one that
    no package manager of the system owns while ``.venv`` does not exist; else that of ``.venv``.
    """
    venv = ROOT / '.venv' / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    active = sys.prefix != sys.base_prefix or os.environ.get('CONDA_PREFIX') == sys.prefix
    managed = Path(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED').exists()
    own = find_spec('torch') and (active or not (managed or venv.exists()))
    return sys.executable if own else str(venv)


def collect(
    python: str, imports: tuple[str, ...] = IMPORTS, requirements: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Examine an interpreter in another process; returns what :func:`_answer` says.

    An import that crashes or hangs is noted as failed; those behind it stay unknown. Extras of a
    requirement stand for what the installed package asks for.
    """
    command, seconds = [python, __file__, '--answer', json.dumps([imports, requirements])], 600
    try:
        done = subprocess.run(command, capture_output=True, timeout=seconds)
        output, died = done.stdout, f'the process died with code {done.returncode}'
    except subprocess.TimeoutExpired as error:
        output, died = error.stdout or b'', f'no answer within {seconds} s'
    facts: dict[str, Any] = {'imports': {}, 'details': {}}
    for line in output.decode(errors='replace').splitlines():
        if line.startswith('@@'):
            record = json.loads(line[2:])
            facts['imports'].update(record.pop('imports', {}))
            facts.update(record)
    if 'packages' not in facts:
        raise RuntimeError(f'{python} is not a working Python 3.10 or newer ({died})')
    if left := [name for name in imports if name not in facts['imports']]:
        facts['imports'][left[0]] = died
    return facts


def lines_present(facts: dict[str, Any]) -> list[str]:
    """Return the lines of which at least one distribution is installed."""
    return [line for line, names in LINES.items() if any(facts['packages'][n] for n in names)]


def diagnose(facts: dict[str, Any]) -> list[Finding]:
    """Return the findings for facts as :func:`collect` gives them.

    An import that was not tried counts as working. What follows from another fault is left out.
    """
    failed = ((name, facts['imports'].get(name)) for name in ('mmdet', 'mmshuffle'))
    last = ((n, f'{n} cannot be imported: {error}', BOOTSTRAP) for n, error in failed if error)
    return [Finding(*finding) for finding in list(_findings(facts)) or list(last)[:1]]


def _findings(facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    packages, failed, lines = facts['packages'], facts['imports'].get, lines_present(facts)
    python, torch = facts['python']['version'], packages['torch']
    pip = f'{shlex.quote(facts["python"]["executable"])} -m pip'
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
        if release(torch) >= CXX20_TORCH:
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
        message = f'mmengine {packages["mmengine"]} needs pkg_resources for `mmdet::` configs; '
        message += f'setuptools {packages["setuptools"] or "(not installed)"} does not have it'
        yield 'setuptools', message, f'{pip} install "{SETUPTOOLS}"'
    if packages['torchvision'] and not failed('torch') and (error := failed('torchvision')):
        message = f'torchvision does not go with this PyTorch and stops training ({error})'
        yield 'torchvision', f'{message}; nothing here needs it', f'{pip} uninstall -y torchvision'
    options = '--force-reinstall --no-deps'
    for name, fix in (('cv2', f'{options} opencv-python-headless'), ('pycocotools', 'pycocotools')):
        if lines and (error := failed(name)):
            yield name, f'{name} does not load: {error}', f'{pip} install {fix}'


def main(argv: list[str] | None = None) -> int:
    """Examine, print, and return the exit code."""
    parser = Parser(__doc__)
    parser.add_argument('--json', action='store_true', help='print JSON and nothing else')
    text = 'interpreter to examine (default: the active environment, else .venv, else this one)'
    parser.add_argument('--python', metavar='PATH', help=text)
    args, chosen = parser.parse_args(argv), choose_python()
    python = args.python or (chosen if os.path.exists(chosen) else sys.executable)
    try:
        facts = collect(python)
    except (OSError, RuntimeError) as e:
        parser.error(f'cannot examine {python}: {e}')
    findings = diagnose(facts)
    if args.json:
        report = {'facts': facts, 'findings': [finding._asdict() for finding in findings]}
        text = json.dumps(report, indent=2)
    else:
        rows = {
            'Python': f'{facts["python"]["version"]}  {facts["python"]["executable"]}',
            'platform': f'{facts["platform"]}, {facts["cores"]} cores',
            'C++ compiler': facts['compiler'] or 'none found',
            'line': ' and '.join(lines_present(facts)) or 'none',
            **{name: version for name, version in facts['packages'].items() if version},
            **{f'import {name}': error or 'loads' for name, error in facts['imports'].items()},
            **facts['details'],
        }
        faults = [f'error: {finding.message}\n  fix it with: {finding.fix}' for finding in findings]
        end = f'{len(findings)} to fix' if findings else 'nothing stands in the way'
        table = (f'{title:<24} {value}' for title, value in rows.items())
        text = '\n\n'.join(['\n'.join(table), *faults, end])
    show(f'{text}\n')
    return 1 if findings else 0


# What follows runs in the interpreter under examination.


def _installed(name: str) -> metadata.Distribution | None:
    return next(iter(metadata.distributions(name=name)), None)


def _version(name: str) -> str | None:
    return getattr(_installed(name), 'version', None)


def _origin(name: str) -> dict[str, Any]:
    """Return where pip installed a distribution from (PEP 610); empty for an index."""
    found = _installed(name)
    return json.loads((found and found.read_text('direct_url.json')) or '{}')


def _compiler() -> str | None:
    """Return the command of the C++ compiler that PyTorch's builder would take."""
    commands = map(shlex.split, (os.environ.get('CXX', ''), 'c++', 'g++', 'clang++', 'cl'))
    return next((shlex.join(words) for words in commands if words and shutil.which(words[0])), None)


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
    needed = map(Requirement, (metadata.requires(wanted.name) or ()) if wanted.extras else ())
    return any(
        _unmet(f'{other.name}{other.specifier}')
        for other in needed
        if not other.marker or any(other.marker.evaluate({'extra': e}) for e in wanted.extras)
    )


def _try_import(name: str) -> None:
    if name != 'mmcv_ext':
        importlib.import_module(name)
        return
    import torch

    # A module that was built for another PyTorch may load and run all the same. The bootstrap keeps
    # each wheel in a folder that is named after the PyTorch that it was built for.
    for _, _, name in LINES.values():
        folder = unquote(_origin(name).get('url', '')).rpartition('/')[0].rpartition('/')[2]
        if folder.startswith('torch-') and folder != f'torch-{_version("torch")}':
            raise ImportError(f'its wheel comes from {folder}')
    # By path: other faults of mmcv cannot hide this one.
    places = getattr(find_spec('mmcv'), 'submodule_search_locations', [])
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
    """Print the facts that :func:`collect` asks for."""

    def say(**fields: Any) -> None:
        print('@@' + json.dumps(fields), flush=True)  # at once: the next import may crash

    # What merely lies in the working directory or beside this file is not installed.
    not_installed = ('', os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in sys.path if path not in not_installed]
    origin, files = _origin('mmshuffle'), getattr(_installed('mmshuffle'), 'files', None) or ()
    records = [file.locate() for file in files if file.name == 'RECORD']
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    say(
        platform=platform.platform(),
        cores=cores(),
        compiler=_compiler(),
        header=str(header) if os.name == 'posix' and not header.is_file() else None,
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
    if sys.argv[1:2] == ['--answer']:  # to collect()
        _answer(*json.loads(sys.argv[2]))
    else:
        sys.exit(main())
