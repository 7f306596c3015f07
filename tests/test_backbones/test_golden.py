"""Every variant computes what it did when its outputs were accepted.

The outputs in ``tests/golden/backbones.json`` guard the numerics and the parameter names, which
seed the parameters. After a change that is meant, or for a new variant, accept the outputs and look
at the difference in the file::

    pytest tests/test_backbones/test_golden.py --accept-golden -k shufflenetv2

Parameters and input come from NumPy's ``RandomState``, whose stream is frozen, and everything is
computed in float64: initialisation and threads of PyTorch play no part.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.variants import VARIANTS, build

GOLDEN = Path(__file__).resolve().parents[1] / 'golden' / 'backbones.json'


def draw(name: str, shape: tuple[int, ...], low: float, high: float) -> torch.Tensor:
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    return torch.from_numpy(rng.uniform(low, high, shape))


def seeded(name: str) -> nn.Module:
    """Build a variant, with all of its stages, whose parameters depend on their names alone."""
    stages = 5 if VARIANTS[name]['type'] == 'ShuffleNetV2' else len(build(name).stages)
    with torch.device('meta'):
        net = build(name, out_indices=tuple(range(stages)))
    net = net.double().to_empty(device='cpu').eval()
    for key, value in net.state_dict().items():
        if key.endswith('num_batches_tracked'):
            value.zero_()
        elif value.ndim > 1:
            bound = (6 / value[0].numel()) ** 0.5  # of He et al., so that depth keeps the scale
            value.copy_(draw(key, value.shape, -bound, bound))
        elif key.endswith(('running_var', 'weight')):
            value.copy_(draw(key, value.shape, 0.5, 1.5))
        else:
            value.copy_(draw(key, value.shape, -0.3, 0.3))
    return net


def summarise(output: torch.Tensor) -> list[float]:
    places = np.random.RandomState(0).randint(output.numel(), size=3)
    values = [output.mean(), output.std(), *output.flatten()[torch.from_numpy(places)]]
    return [float(f'{value:.9g}') for value in values]


@pytest.mark.parametrize('name', VARIANTS)
def test_outputs_are_those_accepted(name, request):
    with torch.no_grad():
        outputs = seeded(name)(draw('input', (1, 3, 64, 40), 0, 1))
    found = [summarise(output) for output in outputs]
    golden = json.loads(GOLDEN.read_text())
    if request.config.getoption('--accept-golden'):
        golden = {key: old for key, old in golden.items() if key in VARIANTS} | {name: found}
        # One variant a line, in order, so that a difference shows which ones changed.
        lines = (f'{json.dumps(key)}: {json.dumps(golden[key])}' for key in sorted(golden))
        GOLDEN.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
        return
    assert name in golden, f'{name} is new: run this test with --accept-golden'
    assert len(found) == len(golden[name])
    for stage, (new, old) in enumerate(zip(found, golden[name], strict=True)):
        assert new == pytest.approx(old, rel=1e-6, abs=1e-9), f'stage {stage}'


def test_golden_file_is_small_and_has_no_variant_that_is_gone():
    assert GOLDEN.stat().st_size < 50_000
    assert json.loads(GOLDEN.read_text()).keys() <= VARIANTS.keys()
