"""What the tests of the latency tool share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mmshuffle.latency.device.bootstrap import PREFIX
from mmshuffle.latency.plan import Plan

from .tiny import assert_clean, tiny_plan


@pytest.fixture
def device_folder(tmp_path: Path) -> Iterator[Path]:
    """Where targets of a test make their folders, of which none may be left."""
    folder = tmp_path / "the device's; $(folder)"
    folder.mkdir()
    yield folder
    assert_clean(folder)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Of two ncnn networks."""
    (tmp_path / 'plan').mkdir()
    return tiny_plan(tmp_path / 'plan')


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path_factory, monkeypatch):
    """Runners of this machine find an empty folder for temporary files, and leave it so."""
    folder = tmp_path_factory.mktemp('temporary')
    monkeypatch.setenv('TMPDIR', str(folder))
    yield
    assert list(folder.glob(f'{PREFIX}*')) == []
