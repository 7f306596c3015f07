"""What importing the package brings along."""

import json
import subprocess
import sys

from tests.conftest import REPO

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
