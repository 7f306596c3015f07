"""Networks so small that a test can make their files itself, and checks of what is left."""

import hashlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import torch
from torch import nn

from mmshuffle.latency.plan import Case, Network, Plan, expected_outputs, setting
from mmshuffle.latency.record import SCHEMA
from mmshuffle.latency.request import Request, make_request

AT_ONCE = dict.fromkeys(('seconds', 'warmup_seconds', 'block_seconds', 'cooldown'), 0.0)
QUICK = dict(AT_ONCE, loops=6, warmup_loops=1, block_loops=2, sessions=2)
LONG = dict(QUICK, seconds=60.0, block_seconds=0.05)
SIDE = 8


def ask(what: str = 'measure', **kwargs) -> Request:
    return make_request({'models': ['net'], 'what': what, **kwargs})


def make_conv(channels: int) -> nn.Conv2d:
    torch.manual_seed(channels)
    return nn.Conv2d(3, channels, 1).eval()


def write_ncnn(conv: nn.Conv2d, folder: Path) -> dict[str, str]:
    """Write the convolution in ncnn's two files; weights follow a tag of 0: float32."""
    channels, weights = conv.out_channels, conv.weight.numel()
    layer = f'Convolution conv 1 1 in0 out0 0={channels} 1=1 5=1 6={weights}'
    (folder / f'conv{channels}.param').write_text(f'7767517\n2 2\nInput in0 0 1 in0\n{layer}\n')
    with (folder / f'conv{channels}.bin').open('wb') as file:
        file.write(bytes(4))
        file.write(conv.weight.detach().numpy().astype('<f4').tobytes())
        file.write(conv.bias.detach().numpy().astype('<f4').tobytes())
    return dict(param=f'conv{channels}.param', bin=f'conv{channels}.bin')


def tiny_plan(folder: Path, count: int = 2) -> Plan:
    """A plan of ncnn networks ``conv4``, ``conv5``, ... on an image of 8x8."""
    plan = Plan(folder)
    for number in range(count):
        conv = make_conv(4 + number)
        files = write_ncnn(conv, folder)
        shape = (1, 3, SIDE, SIDE)
        expected = []
        for output in expected_outputs('conv', conv, shape)[0]:
            content = output.astype('<f4').tobytes()
            expected.append(f'{hashlib.sha256(content).hexdigest()[:8]}.f32')
            (folder / expected[-1]).write_bytes(content)
        network = Network(f'conv{4 + number}', lambda conv=conv: conv)
        plan.cases.append(Case(number, network, shape, setting('ncnn'), files, expected))
        plan.files |= {name: folder / name for name in (*files.values(), *expected)}
    return plan


def change_expected(plan: Plan, number: int) -> None:
    path = plan.files[plan.cases[number].expected[0]]
    values = np.frombuffer(path.read_bytes(), '<f4').copy()
    values[0] += 0.01 * np.abs(values).max()
    path.write_bytes(values.tobytes())


def assert_clean(folder: Path, seconds: float = 60.0) -> None:
    """The folder on the device goes, at the latest when its runner has noticed."""
    end = time.monotonic() + seconds
    while list(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.05)
    assert list(folder.iterdir()) == []


def assert_blocks(case: Case) -> None:
    """It was timed as :data:`QUICK` says, and what was timed is kept block by block."""
    assert case.failure is None and case.gate['passed']
    assert [list(map(len, blocks)) for blocks in case.sessions] == [[2, 2, 2]] * 2
    assert all(ms > 0 for blocks in case.sessions for times in blocks for ms in times)


def check_schema(record: dict) -> None:
    """A file is as ``schema.json`` says."""
    jsonschema.validate(record, json.loads(SCHEMA.read_text()), jsonschema.Draft202012Validator)


def stop_after(calls: int) -> Callable[[float], None]:
    """A progress that presses Ctrl-C."""
    count = 0

    def progress(done: float) -> None:
        nonlocal count
        count += 1
        if count == calls:
            signal.raise_signal(signal.SIGINT)

    return progress
