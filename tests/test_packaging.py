"""What importing the package brings along, what a wheel holds, and its command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPO, load_file

HEAVY = ('mmdet.models', 'mmdet.datasets', 'mmcv.ops', 'matplotlib', 'onnx', 'ncnn')


def test_importing_registers_everything_and_stays_light():
    code = (
        'import json, sys, mmshuffle\n'
        'from mmdet.registry import HOOKS, MODELS, TRANSFORMS\n'
        'names = [n for r in (HOOKS, MODELS, TRANSFORMS) for n in r.module_dict]\n'
        f'print(json.dumps([names, [m for m in {HEAVY} if m in sys.modules]]))'
    )
    command = [sys.executable, '-W', 'ignore', '-c', code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPO, check=True)
    names, heavy = json.loads(done.stdout.splitlines()[-1])
    assert {'ShuffleNetV1', 'ShuffleNetV2', 'MobileNetV1', 'BackboneStageHead', 'LoadImage'} <= set(
        names
    )
    assert heavy == []


def test_bundle_links_in_a_source_tree_and_copies_into_a_wheel(tmp_path, monkeypatch):
    setup = load_file(REPO / 'setup.py')
    monkeypatch.setattr(setup, 'ROOT', tmp_path)
    (tmp_path / 'configs' / '__pycache__').mkdir(parents=True)
    (tmp_path / 'configs' / 'a.py').write_text('x = 1')
    (tmp_path / 'model-index.yml').touch()
    mim = tmp_path / 'mmshuffle' / '.mim'
    for link in (True, False, True, False):  # each replaces what the one before left
        setup.bundle(mim, link=link)
        assert (mim / 'configs' / 'a.py').read_text() == 'x = 1' and not (mim / 'tools').exists()
        for name in ('configs', 'model-index.yml'):
            assert (mim / name).is_symlink() == link
            assert not link or not Path(os.readlink(mim / name)).is_absolute()
    assert not (mim / 'configs' / '__pycache__').exists()


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """A wheel, unpacked where no source tree is near; the folder and the name of the command."""
    folder = tmp_path_factory.mktemp('wheel')
    source, target = folder / 'source', folder / 'site'
    names = ('mmshuffle', 'configs', 'tools', 'setup.py', 'pyproject.toml', 'README.md')
    for name in (*names, 'model-index.yml'):
        place = source / name
        place.parent.mkdir(exist_ok=True)
        if (REPO / name).is_dir():
            ignored = shutil.ignore_patterns('.mim', '__pycache__')
            shutil.copytree(REPO / name, place, ignore=ignored)
        else:
            shutil.copy(REPO / name, place)
    pip = (sys.executable, '-m', 'pip', 'install', '--quiet', '--no-index', '--no-deps')
    options = ('--no-build-isolation', '--target', str(target))
    subprocess.run([*pip, *options, str(source)], check=True, capture_output=True)
    shutil.rmtree(source)
    return target


def run_installed(installed, *arguments):
    (script,) = (installed / 'bin').iterdir()
    path = os.pathsep.join((os.environ.get('PYTHONPATH', ''), str(installed)))
    environment = {**os.environ, 'PYTHONPATH': path.lstrip(os.pathsep)}
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=installed.parent
    )


def test_the_command_lists_every_tool_of_an_installed_wheel(installed):
    done = run_installed(installed, '--help')
    hidden = load_file(REPO / 'tools/command/__init__.py').NO_COMMANDS
    tools = {path.stem for path in (REPO / 'tools').glob('*.py')} - set(hidden)
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[3:])
    assert set(lines) == {tool.replace('_', '-') for tool in tools}
    assert all(text.endswith('.') for text in lines.values())
    assert (done.returncode, done.stderr) == (0, '')


def test_the_command_runs_the_tool_of_an_installed_wheel(installed):
    done = run_installed(installed, 'check_config', '--help')
    assert done.returncode == 0 and done.stdout.startswith('usage: mmshuffle check-config [-h]')
    # It has the tables and the configs of their rows.
    done = run_installed(installed, 'compare', 'shufflenet_v2/table5')
    assert done.returncode == 0 and '4 rows: 4 built, 4 counted, 0 measured.' in done.stdout


def test_the_doctor_runs_where_the_package_cannot_be_imported(installed, tmp_path, monkeypatch):
    (tmp_path / 'torch.py').write_text('raise OSError("libtorch.so: no such file")')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    done = run_installed(installed, 'doctor', '--python', sys.executable)
    assert (done.returncode, done.stderr) == (1, '')
    assert 'PyTorch is installed but does not load: OSError: libtorch.so' in done.stdout
    assert re.search(r'^  fix it with: \S+ -m pip install ', done.stdout, re.MULTILINE)
    assert done.stdout.endswith('to fix\n')


def test_an_unknown_command_is_one_line(installed):
    done = run_installed(installed, 'trian')
    assert (done.returncode, done.stdout, done.stderr.count('\n')) == (2, '', 1)
    assert "no command 'trian'" in done.stderr and 'train' in done.stderr
