"""The ARM code of the runtimes, on an arm64 system that QEMU emulates.

MMSHUFFLE_ARM64 names a folder that `tools/latency.py --prepare` has filled.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from mmshuffle.latency.device import counts
from mmshuffle.latency.device.runtimes import Problem
from mmshuffle.latency.measure import Recording, measure
from mmshuffle.latency.plan import Plan, from_config, setting
from mmshuffle.latency.record import make_record
from mmshuffle.latency.request import suite
from mmshuffle.latency.targets import EmulatedTarget, prepare
from mmshuffle.latency.targets.emulated import SERIAL, compile_plugin
from mmshuffle.latency.wheels import read_wheels
from tests.conftest import refused

from .tiny import QUICK, ask, change_expected, check_schema, tiny_plan

SIZE = (64, 64)  # the smallest that all networks take
KEPT = ('instructions', 'fp_simd', 'load_store', 'bytes')
GOLDEN = Path(__file__).with_name('arm_counts.json')


@pytest.fixture
def system() -> Path:
    for name in ('qemu-aarch64', 'gcc'):
        if shutil.which(name) is None:
            pytest.skip(f'needs {name}: apt-get install qemu-user gcc')
    found = os.environ.get('MMSHUFFLE_ARM64')
    if not found or not Path(found).is_dir():
        pytest.skip('MMSHUFFLE_ARM64 names no folder of tools/latency.py --prepare')
    return Path(found)


def run(system: Path, plan: Plan, request: dict, folder: str, cpu: str = 'cortex-a76') -> Recording:
    target = EmulatedTarget(str(system), cpu, parent=folder)
    recording = measure(plan, target, request, wheels=read_wheels(str(system / 'wheels')))
    assert recording.problem is None
    return recording


@pytest.mark.slow
@pytest.mark.parametrize('cpu', ['cortex-a72', 'max'])
def test_arm_code_computes_and_finds_wrong_outputs(system, cpu, tmp_path, device_folder):
    (tmp_path / 'plan').mkdir()
    plan = tiny_plan(tmp_path / 'plan')
    change_expected(plan, 1)
    recording = run(system, plan, ask(protocol=QUICK), device_folder, cpu)
    assert recording.device['machine'] == 'aarch64'
    right, wrong = recording.cases
    assert right.gate['passed'] and right.gate['error'] < 1e-5 and len(right.sessions) == 2
    assert wrong.failure['stage'] == 'gate' and wrong.sessions == []
    (result,) = make_record(recording, EmulatedTarget(str(system)), {})['results']
    assert 'median_ms' not in result and result['emulated_median_ms'] > 0


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'ncnn'])
def test_networks_of_table8_pass_the_gate(system, runtime, tmp_path, device_folder):
    (tmp_path / 'plan').mkdir()
    plan = Plan(tmp_path / 'plan')
    for network, _ in suite('shufflenet_v1/table8', ((224, 224),)):
        list(plan.add(network, [SIZE], [setting(runtime)]))
    recording = run(system, plan, ask('gate'), device_folder, 'max')
    for case in recording.cases:
        assert case.failure is None and case.gate['passed'] and case.gate['error'] < 1e-4
    assert len(recording.cases) == 5


def test_counts_are_those_that_are_on_record(system, tmp_path, device_folder, monkeypatch):
    """A change of the export or of a network that costs on ARM is seen here.

    Where it is meant, what pytest shows as the found counts goes into arm_counts.json.
    """
    plan = Plan(tmp_path)
    golden = json.loads(GOLDEN.read_text())
    for name in golden:
        config, runtime, precision, form = name.split()
        chosen = setting(runtime, precision=precision, shuffle=form)
        list(plan.add(from_config(config), [SIZE], [chosen]))
    request = ask('count', target='emulated')
    first = run(system, plan, request, device_folder)
    found = {
        name: {key: case.counts['executed'][key] for key in KEPT}
        for name, case in zip(golden, first.cases)
    }
    print(json.dumps(found, indent=1))
    check_schema(make_record(first, EmulatedTarget(str(system)), request))
    assert found == {name: pytest.approx(kept, rel=0.01) for name, kept in golden.items()}
    for case in first.cases[:2]:
        parts = sum(layer['instructions'] for layer in case.counts['layers'])
        assert parts == pytest.approx(case.counts['executed']['instructions'], rel=0.02)
    before = first.cases[0].counts['executed']
    del plan.cases[1:]
    monkeypatch.setitem(SERIAL, 'OTHER', 'of another length' * 20)
    after = run(system, plan, request, str(tmp_path)).cases[0].counts['executed']
    for key in KEPT:
        assert after[key] == pytest.approx(before[key], rel=1e-4)


def test_without_the_plugin_nothing_is_counted(tmp_path):
    with pytest.raises(Problem, match='no emulated system'):
        counts.executed([list, list], tmp_path / 'absent')
    (tmp_path / 'short').write_text('{}\n')
    with pytest.raises(Problem, match='no emulated system'):
        counts.executed([list, list], tmp_path / 'short')


@pytest.mark.parametrize(
    ('missing', 'act', 'message'),
    [
        ((), lambda folder: EmulatedTarget(str(folder)), 'no usr/bin/python3 there'),
        (('qemu-aarch64', 'qemu-aarch64-static'), EmulatedTarget, 'apt-get install qemu-user'),
        (('qemu-aarch64',), compile_plugin, 'not -static: apt-get install qemu-user'),
        ((), lambda folder: prepare(folder, print), 'it exists'),
        (('dpkg',), lambda folder: prepare(folder / 'a', print), 'apt-get install debootstrap'),
        (('fakeroot',), lambda folder: prepare(folder / 'a', print), 'apt-get install fakeroot'),
    ],
)
def test_missing_programs_are_named(tmp_path, monkeypatch, missing, act, message):
    monkeypatch.setattr('shutil.which', lambda name: None if name in missing else f'/bin/{name}')
    monkeypatch.setattr('os.getuid', lambda: 1)
    with refused(message):
        act(tmp_path)


def test_failed_preparation_leaves_nothing(tmp_path, monkeypatch):
    script = tmp_path / 'debootstrap'
    script.write_text('#!/bin/sh\necho no such mirror >&2\nexit 3\n')
    script.chmod(0o755)
    monkeypatch.setattr('shutil.which', lambda name: str(script))
    with refused('debootstrap failed: no such mirror'):
        prepare(tmp_path / 'new/arm64', print)
    assert list((tmp_path / 'new').iterdir()) == []
