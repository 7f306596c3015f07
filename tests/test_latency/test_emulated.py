"""The ARM code of the runtimes, on an arm64 system that QEMU emulates.

MMSHUFFLE_ARM64_ROOT names the folder of the system, MMSHUFFLE_ARM64_WHEELS that of the runtimes'
wheels; docs/latency.md says how to fill them.
"""

import os
import shutil
from pathlib import Path

import pytest

from mmshuffle.latency.measure import measure
from mmshuffle.latency.plan import Plan, setting
from mmshuffle.latency.record import make_record
from mmshuffle.latency.request import suite
from mmshuffle.latency.targets import EmulatedTarget
from mmshuffle.latency.wheels import read_wheels
from tests.conftest import refused

from .tiny import QUICK, ask, change_expected, tiny_plan


@pytest.fixture
def system() -> dict[str, str]:
    if shutil.which('qemu-aarch64-static') is None:
        pytest.skip('needs qemu-aarch64-static: apt-get install qemu-user-static')
    names = dict(root='MMSHUFFLE_ARM64_ROOT', wheels='MMSHUFFLE_ARM64_WHEELS')
    found = {key: os.environ.get(name, '') for key, name in names.items()}
    for key, name in names.items():
        if not Path(found[key]).is_dir() or not found[key]:
            pytest.skip(f'{name} names no folder: see docs/latency.md')
    return found


def reach(system: dict[str, str], folder: Path, cpu: str) -> EmulatedTarget:
    return EmulatedTarget(system['root'], cpu, parent=str(folder))


@pytest.mark.slow
@pytest.mark.parametrize('cpu', ['cortex-a72', 'max'])
def test_arm_code_computes_and_finds_wrong_outputs(system, cpu, tmp_path, device_folder):
    (tmp_path / 'plan').mkdir()
    plan = tiny_plan(tmp_path / 'plan')
    change_expected(plan, 1)
    wheels = read_wheels(system['wheels'])
    target = reach(system, device_folder, cpu)
    recording = measure(plan, target, ask(protocol=QUICK), wheels=wheels)
    assert recording.problem is None and recording.device['machine'] == 'aarch64'
    right, wrong = recording.cases
    assert right.gate['passed'] and right.gate['error'] < 1e-5 and len(right.sessions) == 2
    assert wrong.failure['stage'] == 'gate' and wrong.sessions == []
    (result,) = make_record(recording, target, {})['results']
    assert 'median_ms' not in result and result['emulated_median_ms'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn'])
def test_networks_of_table8_pass_the_gate(system, runtime, tmp_path, device_folder):
    """At the smallest size that all of them take; the tool's --suite does 224x224."""
    (tmp_path / 'plan').mkdir()
    plan = Plan(tmp_path / 'plan')
    for network, _ in suite('shufflenet_v1/table8', ((224, 224),)):
        list(plan.add(network, [(64, 64)], [setting(runtime)]))
    target = reach(system, device_folder, 'max')
    recording = measure(plan, target, ask('gate'), wheels=read_wheels(system['wheels']))
    assert recording.problem is None
    for case in recording.cases:
        assert case.failure is None and case.gate['passed'] and case.gate['error'] < 1e-4
    assert len(recording.cases) == 5


@pytest.mark.parametrize(
    ('qemu', 'message'),
    [('/usr/bin/qemu', 'no usr/bin/python3 there'), (None, 'apt-get install qemu-user-static')],
)
def test_missing_programs_are_named(tmp_path, monkeypatch, qemu, message):
    monkeypatch.setattr('shutil.which', lambda name: qemu)
    with refused(message):
        EmulatedTarget(str(tmp_path))
