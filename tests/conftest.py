"""What several test files share."""

import importlib.util
import os
import signal
from pathlib import Path
from types import ModuleType

if 'PYTEST_XDIST_WORKER' in os.environ:
    # Before PyTorch is imported: processes that share cores slow each other many times over.
    os.environ.setdefault('OMP_NUM_THREADS', '1')

import pytest
import torch
from mmengine.registry import init_default_scope

import mmshuffle  # noqa: F401  (registers everything)

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
