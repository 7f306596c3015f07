"""tools/complexity.py as a user runs it."""

import functools
import json
import re

import pytest

from tests.conftest import REPO
from tests.test_tools.conftest import assert_done, assert_refused

C4 = 'configs/faster_rcnn/faster-rcnn_mobilenetv1-x1.0_c4-300_1x_coco.py'


@pytest.fixture
def tool(call, monkeypatch):
    monkeypatch.chdir(REPO)
    return functools.partial(call, 'complexity')


def cells(output: str, part: str) -> list[float]:
    (line,) = [line for line in output.splitlines() if line.startswith(f'| {part} |')]
    return [float(cell) for cell in line.strip('| ').split(' | ')[1:]]


def test_a_detector_on_screen_and_as_json(tool, tmp_path):
    out = tmp_path / 'cost.json'
    output, _ = assert_done(tool(C4, '--shape', '300', '300', '--json', out))
    assert '300x300, 300 proposals' in output
    # Table 13 of the MobileNet paper: 25.2 G.
    assert round(cells(output, 'total')[0] / 1000, 1) == 25.2
    parts = re.findall(r'^\| ((?:backbone|RPN|RoI)[^|]*) \|', output, re.MULTILINE)
    assert parts == [*(f'backbone stage {i}' for i in range(3)), 'RPN', 'RoI head']
    assert 'BatchNorm, activations, pooling' in output and 'are free' in output
    content = json.loads(out.read_text())
    assert content['model'] == C4 and content['shape'] == [300, 300]
    assert content['proposals'] == 300
    for figure, total in content['total'].items():
        assert total == sum(part[figure] for part in content['parts'].values())
    assert content['total']['multiply_adds'] == pytest.approx(cells(output, 'total')[0] * 1e6, 1e-6)


GROUPS = '--cfg-options model.backbone.groups=8 model.head.in_channels=1536'


@pytest.mark.parametrize(
    ('args', 'part', 'figures'),
    [
        ('shufflenetv2-x1.0', 'head', [1.024, 1.024]),
        # 41 M of Table 5 less the classifier.
        ('ShuffleNetV2 --args widen_factor=0.5 out_indices=[4]', 'total', [40.476 - 1.024]),
        # A version is text in quotes of its own; 349.15 M less the last convolution.
        ("SqueezeNet --args version='1.1' padding=published", 'total', [349.15 - 13**2 * 0.512]),
        (f'shufflenetv1-x1.0-g3 {GROUPS}', 'total', [138.366]),
    ],
)
def test_networks_by_name_take_arguments_or_options(tool, args, part, figures):
    output, _ = assert_done(tool(*args.split()))
    assert output.startswith(f'{args.split()[0]}, 224x224\n')
    assert cells(output, part)[: len(figures)] == pytest.approx(figures, abs=0.01)


def test_what_does_not_run_is_named(tool, tmp_path):
    path = tmp_path / 'mask.py'
    path.write_text("_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'\n")
    output, _ = assert_done(tool(path, '--shape', '64', '64', '--proposals', '1'))
    assert 'counted with their parameters only: 6 layers (roi_head.mask_head.' in output


@pytest.mark.parametrize(
    ('args', 'words'),
    [
        ('ShufleNetV2', 'near: ShuffleNetV2'),
        ('shufflenetv1-x1.0-g5', 'near: shufflenetv1-x1.0-g'),
        ('ShuffleNetV2 --args widen_factor', 'write KEY=VALUE'),
        ('ShuffleNetV2 --cfg-options a=1', 'use --args'),
        ('shufflenetv2-x1.0 --args a=1', 'use --cfg-options'),
        ('mmdet', 'does not exist'),
        (C4, 'give --shape'),
        (f'{C4} --shape 0 10', 'at least 1'),
        (f'{C4} --shape 64 64 --proposals 0', 'at least 1'),
        ('shufflenetv2-x1.0 --proposals 30', 'is no two-stage detector'),
        ('SqueezeNet --args version=1.1', "choose one of '1.0', '1.1'"),
    ],
)
def test_bad_input_is_one_line(tool, args, words):
    assert_refused(tool(*args.split()), words)
