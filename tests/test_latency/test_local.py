"""Measuring on this machine, and what can go wrong on any device with Python."""

import contextlib
import dataclasses
import itertools
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from mmshuffle.latency.measure import INTERRUPTED, measure
from mmshuffle.latency.plan import Network, Plan, setting
from mmshuffle.latency.targets import LocalTarget, make_target
from mmshuffle.latency.wheels import choose_wheels, read_wheels
from tests.conftest import refused
from tests.test_deploy.plain import Of
from tests.test_deploy.test_xnnpack import BOTH

from .tiny import QUICK, ask, assert_blocks, change_expected, make_conv

pytest.importorskip('ncnn', reason='needs ncnn')


@pytest.fixture
def target(device_folder) -> LocalTarget:
    return LocalTarget(parent=str(device_folder))


def test_networks_are_measured_and_nothing_is_left(plan, target):
    shares: list[float] = []
    pauses: list[float] = []
    job = ask(protocol=dict(QUICK, cooldown=3.5))
    recording = measure(plan, target, job, shares.append, pauses.append)
    assert recording.problem is None and pauses == [3.5]
    for case in recording.cases:
        assert case.gate['passed'] and case.gate['error'] < 1e-6
        assert_blocks(case)
        assert case.options['use_fp16_arithmetic'] is False
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)
    assert recording.device['machine'] == platform.machine()
    states = [(s['session'], s['when']) for s in recording.states]
    assert states == list(itertools.product((0, 1), ('before', 'after')))


@pytest.mark.parametrize('runtime', BOTH)
def test_runtimes_with_xnnpack_are_measured(runtime, tmp_path, target):
    plan = Plan(tmp_path)
    convs = [make_conv(channels) for channels in range(4, 15)]  # more than ten: LiteRT sorts names
    network = Network('net', lambda shape: Of(lambda x: [conv(x) for conv in convs]))
    list(plan.add(network, [(8, 12)], [setting(runtime, threads) for threads in (1, 2)]))
    recording = measure(plan, target, ask(protocol=QUICK))
    assert recording.problem is None
    for case in recording.cases:
        assert case.gate['passed'] and case.gate['error'] < 1e-5
        assert_blocks(case)
    change_expected(plan, 1)
    again = measure(plan, target, ask('gate'))
    assert again.cases[1].failure['stage'] == 'gate'


def test_gate_alone_times_nothing_and_keep_keeps_the_files(plan, device_folder):
    shares: list[float] = []
    target = LocalTarget(parent=str(device_folder), keep=True)
    recording = measure(plan, target, ask('gate'), shares.append)
    assert all(case.gate['passed'] and not any(case.sessions) for case in recording.cases)
    assert shares[:2] == [0.5, 1.0]
    (folder,) = device_folder.iterdir()
    assert {'runner.pyz', 'conv4.param'} <= {path.name for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o077 == 0
    shutil.rmtree(folder)


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='Linux only')
def test_cores_are_pinned(plan, target):
    core = min(os.sched_getaffinity(0))
    assert measure(plan, target, ask('gate', cores=str(core))).pinned == [core]
    plan.cases[0] = dataclasses.replace(plan.cases[0], setting=setting('ncnn', threads=2))
    recording = measure(plan, target, ask('gate', cores=str(core)))
    assert 'more than the 1 cores of --cores' in recording.problem


def test_outputs_that_become_wrong_end_the_figures_of_earlier_sessions(plan, device_folder, target):
    def spoil(seconds: float) -> None:
        change_expected(plan, 1)
        (folder,) = device_folder.iterdir()
        shutil.copy(plan.files[plan.cases[1].expected[0]], folder)

    recording = measure(plan, target, ask(protocol=QUICK), sleep=spoil)
    right, wrong = recording.cases
    assert len(right.sessions) == 2 and right.failure is None
    assert wrong.failure['stage'] == 'gate' and wrong.sessions == []
    assert wrong.failure['message'] == 'outputs differ by 0.01 of the largest one'


def test_network_that_the_runtime_cannot_load_is_named(plan, target):
    param = plan.files['conv5.param']
    param.write_text(param.read_text().replace('Convolution', 'Convulsion'))
    recording = measure(plan, target, ask(protocol=QUICK))
    assert len(recording.cases[0].sessions) == 2
    failure = recording.cases[1].failure
    assert failure['stage'] == 'load' and failure['message'].startswith('ncnn 1.')
    assert 'a layer is not known' in failure['message'] and '\n' not in failure['message']


def test_ctrl_c_while_the_folder_is_made_leaves_none(plan, device_folder, target, tmp_path):
    """It is made there, but its name has not arrived here yet."""
    slow = tmp_path / 'python'
    pressed = tmp_path / 'pressed'
    wait = f'while [ ! -e {pressed} ]; do sleep 0.01; done'
    slow.write_text(f'#!/bin/sh\n{sys.executable} "$@" | ({wait}; cat)\n')
    slow.chmod(0o755)

    def press() -> None:
        while not list(device_folder.iterdir()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        pressed.touch()

    threading.Thread(target=press, daemon=True).start()
    recording = measure(plan, LocalTarget(str(slow), parent=str(device_folder)), ask('gate'))
    assert recording.problem == INTERRUPTED


def test_runner_that_is_killed_is_reported(plan, target, tmp_path):
    (tmp_path / 'ncnn.py').write_text('import os\nos.kill(os.getpid(), 9)\n')
    target.environment = lambda: {**os.environ, 'PYTHONPATH': str(tmp_path)}
    recording = measure(plan, target, ask(protocol=QUICK))
    assert recording.problem == 'local: the command there ended with signal 9: no message'


def test_too_little_space_is_known_before_anything_is_sent(plan, target, monkeypatch):
    act = target._act

    def crowded(action, *arguments, **kwargs):
        result = act(action, *arguments, **kwargs)
        return {**result, 'free': 10_000} if action == 'prepare' else result

    monkeypatch.setattr(target, '_act', crowded)
    recording = measure(plan, target, ask(protocol=QUICK))
    assert recording.problem.startswith('local: its disk is full: 0 MB are to be sent, 0 MB are')
    assert '--device-folder' in recording.problem


@pytest.mark.parametrize(
    ('target', 'problem'),
    [
        (LocalTarget(python='/no/python'), '/no/python cannot be started'),
        (LocalTarget(parent='/no/such/folder'), 'local: prepare there failed'),
    ],
)
def test_python_and_folder_that_do_not_exist_are_one_line(plan, target, problem):
    assert measure(plan, target, ask()).problem == f'{problem}: No such file or directory'


# A stand-in for ncnn in plain Python that runs the networks of the tests, for any interpreter.
PLAIN_NCNN = """
import os
from array import array
from types import SimpleNamespace

__version__ = f'on {os.sched_getaffinity(0)}'


def Mat(values):
    return SimpleNamespace(clone=lambda: values.cast('B').cast('f').tolist())


class Net:
    opt = SimpleNamespace()
    input_names, output_names = (lambda self: ['in0']), (lambda self: ['out0'])
    load_param, create_extractor = (lambda self, path: 0), (lambda self: self)

    def load_model(self, path):
        self.weights = array('f', open(path, 'rb').read()[4:]).tolist()
        return 0

    def input(self, name, image):
        size = len(image) // 3
        self.pixels = list(zip(*(image[n * size : (n + 1) * size] for n in range(3))))

    def extract(self, name):
        found, channels = array('f'), len(self.weights) // 4
        for n in range(channels):
            a, b, c, bias = *self.weights[3 * n : 3 * n + 3], self.weights[3 * channels + n]
            found.extend(a * x + b * y + c * z + bias for x, y, z in self.pixels)
        return 0, found
"""


def old_python() -> str:
    """A Python 3.8, the oldest that a device may have."""
    for name in (os.environ.get('MMSHUFFLE_TEST_PYTHON38'), 'python3.8'):
        command = [name or '', '-c', 'import sys; print(sys.executable, sys.version)']
        with contextlib.suppress(OSError):
            said = subprocess.run(command, capture_output=True, text=True).stdout
            if ' 3.8.' in said:
                return said.split()[0]
    pytest.skip('no python3.8 on PATH: set MMSHUFFLE_TEST_PYTHON38 to one')


@pytest.mark.skipif(not hasattr(os, 'sched_setaffinity'), reason='Linux only')
@pytest.mark.parametrize('python', [lambda: sys.executable, old_python], ids=['this', '3.8'])
def test_whole_measurement_runs_under_old_pythons(plan, device_folder, tmp_path, python):
    with zipfile.ZipFile(tmp_path / 'ncnn-1-py3-none-any.whl', 'w') as wheel:
        wheel.writestr('ncnn.py', PLAIN_NCNN)
    target = LocalTarget(python(), parent=str(device_folder))
    wheels = read_wheels(str(tmp_path))
    core = min(os.sched_getaffinity(0))
    recording = measure(plan, target, ask(protocol=QUICK, cores=str(core)), wheels=wheels)
    assert recording.problem is None
    for case in recording.cases:
        assert case.failure is None and case.version == f'on {{{core}}}'
        assert_blocks(case)
    assert recording.device['cores'] and recording.device['python'] and recording.pinned


@pytest.mark.parametrize(
    'tags, fits',
    [
        ('py3-none-any', True),
        ('cp311-cp311-manylinux_2_24_aarch64.manylinux_2_28_aarch64', True),
        ('cp310-abi3-manylinux2014_aarch64', True),
        ('cp312-abi3-manylinux2014_aarch64', False),
        ('cp311-cp311-manylinux2014_x86_64', False),
    ],
)
def test_wheels_are_chosen_by_their_tags(tmp_path, tags, fits):
    path = tmp_path / f'numpy-2.0-{tags}.whl'
    for name in (path.name, 'ai_edge_litert-2-py2-none-any.whl'):  # of a runtime that is not asked
        (tmp_path / name).touch()
    wheels, place = read_wheels(str(tmp_path), ['ncnn']), dict(machine='aarch64', python='3.11.2')
    if fits:
        assert choose_wheels(wheels, place) == [path]
    else:
        with refused(f'the device is aarch64.*numpy is there only as {path.name}'):
            choose_wheels(wheels, place)


@pytest.mark.parametrize(
    'name', ['', 'pi@host', 'ssh:', 'ssh:-oProxyCommand=x', 'ssh:a b', 'adb:;x']
)
def test_unknown_targets_are_refused(name):
    with refused():
        make_target(name)
