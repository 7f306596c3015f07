"""The doctor: what it says about fabricated environments, and that probing survives crashes."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCTOR = ROOT / 'tools' / 'doctor.py'

spec = importlib.util.spec_from_file_location('doctor', DOCTOR)
doctor = importlib.util.module_from_spec(spec)
spec.loader.exec_module(doctor)
environment = doctor.load_environment()

GOOD_PACKAGES = {
    'torch': '2.13.0+cpu',
    'mmdet': '3.3.0',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'setuptools': '81.0.0',
    'pycocotools': '2.0.11',
    'mmshuffle': '0.1.0',
}


@pytest.fixture
def facts():
    """Facts of an environment in which everything works."""
    names = [name for line in environment.LINES.values() for name in line]
    packages = dict.fromkeys([*names, *environment.OTHER_PACKAGES])
    imports = {name: {'ok': True} for name in environment.PROBES}
    imports['torchvision'] = {'ok': False, 'error': "ModuleNotFoundError: 'torchvision'"}
    imports['torch'].update(version='2.13.0+cpu', cuda=None, cudnn=None, gpus=[])
    imports['mmshuffle'].update(version='0.1.0', backbones=['ShuffleNetV1'])
    return {
        'platform': 'Linux',
        'machine': 'x86_64',
        'cores': 2,
        'memory_gib': 8.0,
        'compiler': '/usr/bin/c++',
        'python': {'version': '3.11.7', 'executable': '/env/bin/python', 'prefix': '/env'},
        'packages': {**packages, **GOOD_PACKAGES},
        'imports': imports,
        'editable': None,
        'installed_at': None,
    }


def fail(facts, name, error='ImportError: broken'):
    """Make one probe fail."""
    facts['imports'][name] = {'ok': False, 'error': error}


def errors(facts):
    """Return the error-level findings by code."""
    return {f.code: f for f in environment.diagnose(facts) if f.level == 'error'}


def test_a_working_environment_has_no_errors(facts):
    assert errors(facts) == {}


def test_onedl_needs_neither_old_setuptools_nor_version_bounds(facts):
    facts['packages'].update({'mmdet': None, 'mmengine': None, 'mmcv': None})
    facts['packages'].update({'onedl-mmdetection': '3.5.1', 'onedl-mmengine': '0.10.12'})
    facts['packages'].update({'onedl-mmcv': '2.3.6', 'setuptools': '84.0.0'})
    fail(facts, 'pkg_resources')
    assert environment.diagnose(facts) == []


def test_nothing_installed_asks_for_the_bootstrap_once_each(facts):
    facts['packages'] = dict.fromkeys(facts['packages'])
    for name in environment.PROBES:
        fail(facts, name, 'ModuleNotFoundError: no')
    found = errors(facts)
    assert set(found) == {'no-torch', 'no-mmdet'}
    assert {f.fix for f in found.values()} == {environment.BOOTSTRAP}


def break_torch(facts):
    fail(facts, 'torch', 'OSError: libtorch.so')


def break_ops_missing(facts):
    fail(facts, 'mmcv_ext', "ModuleNotFoundError: No module named 'mmcv._ext'")


def break_ops_other_torch(facts):
    fail(facts, 'mmcv_ext', 'ImportError: undefined symbol: _ZN3c10')


def break_setuptools(facts):
    facts['packages']['setuptools'] = '82.0.0'
    fail(facts, 'pkg_resources', "ModuleNotFoundError: No module named 'pkg_resources'")


def break_lines(facts):
    facts['packages']['onedl-mmcv'] = '2.3.6'


def break_completeness(facts):
    facts['packages']['mmengine'] = None


def break_torchvision(facts):
    facts['packages']['torchvision'] = '0.20.0'
    fail(facts, 'torchvision', 'RuntimeError: operator torchvision::nms does not exist')


def break_mmcv_version(facts):
    facts['packages']['mmcv'] = '2.2.0'


def break_mmengine_version(facts):
    facts['packages']['mmengine'] = '0.6.0'


def break_mmdet_version(facts):
    facts['packages']['mmdet'] = '2.28.2'


def break_opencv(facts):
    fail(facts, 'cv2', 'ImportError: libGL.so.1: cannot open shared object file')


def break_pycocotools(facts):
    fail(facts, 'pycocotools')


def break_python(facts):
    facts['python']['version'] = '3.8.10'


def break_mmdet(facts):
    fail(facts, 'mmdet')


def break_mmshuffle(facts):
    fail(facts, 'mmshuffle', "ModuleNotFoundError: No module named 'mmshuffle'")


@pytest.mark.parametrize(
    ('breakage', 'code', 'in_fix'),
    [
        (break_torch, 'torch-broken', '--force-reinstall torch==2.13.0+cpu'),
        (break_ops_missing, 'mmcv-ops', '--no-cache-dir --force-reinstall --no-deps mmcv==2.1.0'),
        (break_ops_other_torch, 'mmcv-ops', '--no-build-isolation'),
        (break_setuptools, 'setuptools', 'install "setuptools>=77.0.3,<82"'),
        (break_lines, 'both-lines', 'uninstall -y mmdet mmengine mmcv onedl-mmcv && python3'),
        (break_completeness, 'incomplete-line', 'env --line openmmlab'),
        (break_torchvision, 'torchvision', 'uninstall -y torchvision'),
        (break_mmcv_version, 'mmcv-version', 'install --no-build-isolation mmcv==2.1.0'),
        (break_mmengine_version, 'mmengine-version', 'install mmengine==0.10.7'),
        (break_mmdet_version, 'mmdet-version', 'install mmdet==3.3.0'),
        (break_opencv, 'opencv', 'opencv-python-headless'),
        (break_pycocotools, 'pycocotools', 'install pycocotools'),
        (break_python, 'python-too-old', 'python3.10'),
        (break_mmdet, 'mmdet-broken', 'bootstrap.py'),
        (break_mmshuffle, 'mmshuffle', '-e .'),
    ],
)
def test_each_breakage_is_found_alone_with_its_cure(facts, breakage, code, in_fix):
    breakage(facts)
    untouched = copy.deepcopy(facts)
    found = errors(facts)
    assert list(found) == [code]
    assert in_fix in found[code].fix
    assert '\n' not in found[code].message + found[code].fix
    assert facts == untouched


def test_consequences_of_a_fault_are_not_reported_beside_it(facts):
    break_torch(facts)
    for name in ('mmcv_ext', 'mmdet', 'mmshuffle'):
        fail(facts, name)
    assert list(errors(facts)) == ['torch-broken']


def test_unloadable_checkpoints_are_information_only_where_they_occur(facts):
    def codes():
        return [(f.level, f.code, f.fix) for f in environment.diagnose(facts)]

    assert codes() == [('info', 'checkpoints', None)]
    facts['packages']['torch'] = '2.5.1'
    assert codes() == []


def test_missing_compiler_matters_only_when_mmcv_must_be_built(facts):
    facts['compiler'] = None
    assert [f for f in environment.diagnose(facts) if f.code == 'no-compiler'] == []
    break_ops_missing(facts)
    assert [f.level for f in environment.diagnose(facts) if f.code == 'no-compiler'] == ['warning']


@pytest.mark.parametrize(
    ('older', 'newer'), [('2.9.1', '2.13.0+cpu'), ('0.7', '0.7.1'), ('81.0.0', '82.0.0rc1')]
)
def test_releases_compare_as_numbers(older, newer):
    assert environment.release(older) < environment.release(newer)


def test_a_crashing_and_a_hanging_import_cost_only_themselves(tmp_path, monkeypatch):
    (tmp_path / 'cv2.py').write_text('import os\nos._exit(7)\n')
    (tmp_path / 'pycocotools.py').write_text('import time\ntime.sleep(60)\n')
    (tmp_path / 'pkg_resources.py').write_text('raise ValueError("first line\\nsecond")\n')
    (tmp_path / 'torchvision.py').write_text('')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    probes = ('pkg_resources', 'cv2', 'pycocotools', 'torchvision')
    facts = environment.probe(sys.executable, probes, timeout=1.5)
    assert facts['imports']['pkg_resources'] == {'ok': False, 'error': 'ValueError: first line'}
    assert facts['imports']['cv2'] == {'ok': False, 'error': 'the process died with code 7'}
    assert 'no answer' in facts['imports']['pycocotools']['error']
    assert facts['imports']['torchvision']['ok']
    assert facts['packages']['pytest']


def test_modules_that_only_lie_in_the_working_directory_do_not_count(tmp_path, monkeypatch):
    (tmp_path / 'torchvision.py').write_text('')
    monkeypatch.chdir(tmp_path)
    facts = environment.probe(sys.executable, ('torchvision',))
    installed = bool(facts['packages']['torchvision'])
    assert facts['imports']['torchvision']['ok'] == installed


def run_doctor(*arguments):
    """Run the command line."""
    command = [sys.executable, str(DOCTOR), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_json_is_the_only_output_and_the_exit_code_follows_it():
    done = run_doctor('--json', '--python', sys.executable)
    report = json.loads(done.stdout)
    assert done.stderr == ''
    assert report['facts']['imports']['torch']['ok']
    assert set(report['facts']['imports']) == set(environment.PROBES)
    broken = any(finding['level'] == 'error' for finding in report['findings'])
    assert done.returncode == (1 if broken else 0)


def test_text_report_shows_finding_and_cure(facts, monkeypatch, capsys):
    break_setuptools(facts)
    monkeypatch.setattr(doctor, 'load_environment', lambda: environment)
    monkeypatch.setattr(environment, 'collect', lambda python: facts)
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert 'line             openmmlab' in text
    assert 'mend it with: /env/bin/python -m pip install "setuptools>=77.0.3,<82"' in text
    assert text.endswith('1 to mend\n')


@pytest.mark.parametrize('arguments', [['--bogus'], ['--python', '/nowhere/python']])
def test_bad_arguments_end_with_one_line_and_code_2(arguments):
    done = run_doctor(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.count('\n') == 1
