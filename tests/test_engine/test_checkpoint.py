"""Checkpoints are plain, whole or absent, and found again."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch import nn

from mmshuffle.engine.checkpoint import HISTORY, AtomicBackend, from_plain, to_plain
from mmshuffle.engine.hooks import PlainCheckpointHook
from mmshuffle.weights import read_checkpoint
from tests.conftest import refused


def test_plain_form_survives_the_weights_only_unpickler(tmp_path):
    history = HistoryBuffer([1.0, 2.5], [1, 2], max_length=7)
    content = {
        'history': history,
        'scalar': np.float64(0.5),
        'array': np.arange(3, dtype=np.float32),
        'nested': ({'a': [np.int64(3), None, 'x']}, ConfigDict(), ConfigDict(b=1)),
        'weights': torch.ones(2),
    }
    path = tmp_path / 'a.pth'
    torch.save(to_plain(content, 'checkpoint'), path)
    found = torch.load(path, weights_only=True)
    assert found['scalar'] == 0.5 and type(found['scalar']) is float
    assert found['array'].tolist() == [0, 1, 2]
    assert found['nested'] == ({'a': [3, None, 'x']}, {}, {'b': 1})
    back = from_plain(found['history'])
    assert isinstance(back, HistoryBuffer) and back.max_length == 7
    assert [x.tolist() for x in back.data] == [[1.0, 2.5], [1, 2]]
    assert back.mean() == history.mean()


def test_what_has_no_plain_form_is_refused_or_dropped_by_name():
    content = {'a': [lambda: None, {1, 2}], 'b': 3}
    with pytest.raises(TypeError, match=r'state\.a\[0\] is a function'):
        to_plain(content, 'state')
    dropped = []
    assert to_plain(content, 'state', dropped) == {'a': [None, [1, 2]], 'b': 3}
    assert dropped == ['state.a[0]']


def test_state_dicts_keep_their_version_numbers():
    state = torch.nn.BatchNorm2d(2).state_dict()
    assert to_plain(state, 'state')._metadata == state._metadata


def test_objects_of_mmengines_own_checkpoints_do_not_come_back_as_empty_mappings(tmp_path):
    torch.save({'whole': HistoryBuffer([1.0], [1]), 'other': HistoryBuffer}, tmp_path / 'a.pth')
    dropped = []
    assert to_plain(read_checkpoint(tmp_path / 'a.pth'), 'hub', dropped) == {}
    assert dropped == ['hub.whole', 'hub.other']


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'epoch_1.pth'
    backend = AtomicBackend()
    backend.put(b'old', path)
    monkeypatch.setattr('os.fsync', lambda _: (_ for _ in ()).throw(OSError('disk full')))
    with pytest.raises(OSError, match='disk full'):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert [p.name for p in tmp_path.iterdir()] == ['epoch_1.pth']


WEIGHTS = nn.Linear(1, 1).state_dict()
FORMLESS = [
    *(dict(state_dict=value) for value in (5, None, [1], {1: 2}, {'weight': 3.0, 'bias': None})),
    *(
        dict(state_dict=WEIGHTS, message_hub=dict(log_scalars=value))
        for value in (5, {'loss': {HISTORY: None}}, {'loss': {HISTORY: [1, 2, 3]}})
    ),
    dict(state_dict=WEIGHTS, message_hub=dict(runtime_info=[1])),
]


@pytest.mark.parametrize('content', FORMLESS)
def test_what_has_not_the_form_of_a_checkpoint_is_one_line(content):
    runner = SimpleNamespace(
        model=nn.Linear(1, 1), _resume=False, _load_from='some.pth', _train_loop=None
    )
    with refused(r'some\.pth'):
        PlainCheckpointHook().after_load_checkpoint(runner, content)
