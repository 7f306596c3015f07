"""What several test files share."""

import contextlib
import copy
import functools
import gc
import importlib.util
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

# Before PyTorch is imported: threads of processes that share cores wait for each other, tenfold.
os.environ.setdefault('OMP_NUM_THREADS', '1')
# Where transformers is installed, MMDetection's language models look for theirs on the internet.
os.environ['HF_HUB_OFFLINE'] = '1'

import mmdet
import pytest
import torch
from mmengine.config import Config
from mmengine.config import config as config_module
from mmengine.registry import init_default_scope
from mmengine.runner import Runner, loops
from mmengine.runner import runner as runner_module

import mmshuffle  # noqa: F401  (registers everything)
from mmshuffle.checks import detector
from mmshuffle.checks.parts import observe
from mmshuffle.engine.shipped import metafiles_read_once
from mmshuffle.errors import UserError

# A shell without job control starts programs in the background deaf to Ctrl-C, which tests press.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = Path(__file__).resolve().parents[1]
FACTS = Path(os.environ.get('MMSHUFFLE_TEST_DATA', REPO.parent / 'shared'))


def pytest_addoption(parser):
    parser.addoption(
        '--accept-golden',
        action='store_true',
        help='write the outputs of the selected variants to tests/golden/ instead of comparing',
    )


@pytest.fixture(autouse=True)
def _mmdet_scope():
    init_default_scope('mmdet')


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='session')
def _no_waiting():
    """For compilers at every start of a run, yapf, metafiles, configs, the end of a pass.

    Nor for garbage collection among what was imported, which MMEngine does for every data set.
    """
    gc.freeze()
    with metafiles_read_once(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner_module, 'collect_env', functools.cache(runner_module.collect_env))
        patch.setattr(config_module, 'FormatCode', lambda text, style_config: (text, False))
        patch.setattr(Config, '_file2dict', staticmethod(_shipped_read_once(Config._file2dict)))
        patch.setattr(loops, 'time', SimpleNamespace(sleep=lambda seconds: None))
        patch.setattr(Runner, 'train', functools.partialmethod(_train, Runner.train))
        yield


def _shipped_read_once(read):
    """Keep what is read of the configs of this project and of MMDetection, which do not change."""
    kept, folders = {}, (str(REPO / 'configs'), str(Path(mmdet.__file__).parent))

    def read_once(filename, *args, **kwargs):
        path = os.path.realpath(filename)
        if not path.startswith(folders):
            return read(filename, *args, **kwargs)
        key = (os.path.abspath(filename), *args, *kwargs.items())
        if key not in kept:
            kept[key] = read(filename, *args, **kwargs)
        return copy.deepcopy(kept[key])

    return read_once


@functools.cache
def _observe(backbone, size):
    return observe(json.loads(backbone), size)


@pytest.fixture
def observed_once(monkeypatch):
    """A backbone that several detectors share is run once for their checks."""
    monkeypatch.setattr(
        detector, 'observe', lambda part, size: _observe(json.dumps(part, default=repr), size)
    )


def _train(runner, train):
    """Train, and end the workers: one that is left to the garbage collector takes it 5 s."""
    try:
        return train(runner)
    finally:
        loader = getattr(runner._train_loop, 'dataloader', None)
        iterator = getattr(loader, '_iterator', None)
        if hasattr(iterator, '_shutdown_workers'):
            iterator._shutdown_workers()


@contextlib.contextmanager
def refused(message: str = '') -> Iterator[pytest.ExceptionInfo]:
    """Expect that a mistake of the user is told in one line, in which ``message`` is found."""
    with pytest.raises(UserError, match=message or None) as caught:
        yield caught
    assert '\n' not in str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files go of torch's hub cache, which is an empty folder."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    return tmp_path / 'hub' / 'checkpoints'


def facts(relative: str) -> Path:
    """A file of real data or weights outside the project; skips the test where it is absent."""
    path = FACTS / relative
    if not path.exists():
        pytest.skip(f'{relative} is absent: set MMSHUFFLE_TEST_DATA to a folder that has it')
    return path


def load_file(path: Path) -> ModuleType:
    """Import a file that is not part of a package, anew."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
