"""Downloads are whole and verified or absent, also with several processes at once."""

import hashlib
import multiprocessing
import os
import random
import shutil
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from mmshuffle.weights import download, read_tensors
from mmshuffle.weights.download import cache_path, digest_in, fetch
from tests.conftest import refused
from tests.file_server import FileServer, serve

CONTENT = random.Random(0).randbytes(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f'net-{DIGEST[:8]}.pth'


@pytest.fixture
def server(hub) -> FileServer:
    with serve(CONTENT) as state:
        yield state


def kept(folder: Path) -> list[str]:
    """Names of the files but the locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != '.lock')


def assert_refused(url: str, *parts: str, **kwargs) -> None:
    with refused() as caught:
        fetch(url, **kwargs)
    assert all(part in str(caught.value) for part in (url, *parts)), caught.value
    assert 'urlopen' not in str(caught.value)


def test_a_file_is_verified_and_fetched_once(server, hub):
    path = fetch(server.url(NAME))
    assert path == hub / NAME and path.read_bytes() == CONTENT
    assert fetch(server.url(NAME)) == path
    assert fetch(server.url('net.pth'), sha256=DIGEST).read_bytes() == CONTENT
    assert server.asked == 2 and len(kept(hub)) == 2


@pytest.mark.parametrize('cut', [0, 1, 500_000, 999_999])
def test_a_connection_that_is_lost_leaves_nothing(server, hub, cut):
    server.cuts = [cut]
    assert_refused(server.url(NAME), 'try again', 'by hand')
    assert kept(hub) == []
    assert fetch(server.url(NAME)).read_bytes() == CONTENT


def test_a_file_without_a_hash_is_kept_only_if_it_can_be_read(hub, tmp_path):
    torch.save({'a': torch.rand(1000)}, tmp_path / 'a.pth')
    with serve((tmp_path / 'a.pth').read_bytes()) as server:
        server.cuts = [4000]
        with refused(r'/models/a\.pth is damaged'):
            read_tensors(server.url('a.pth'))
        assert kept(hub) == []
        assert read_tensors(server.url('a.pth')).keys() == {'a'}
        server.content = b'<!DOCTYPE html><html>Sign in</html>'
        with refused(r'/models/b\.pth is a web page'):
            read_tensors(server.url('b.pth'))
        assert len(kept(hub)) == 1


def test_a_wrong_hash_says_so(server, hub):
    assert_refused(server.url('net-0123456789.pth'), DIGEST[:10], '0123456789', 'by hand')
    assert_refused(server.url('net.pth'), 'f' * 64, sha256='f' * 64)
    assert kept(hub) == []


@pytest.mark.parametrize('status', [403, 404, 500])
def test_what_the_server_answers_is_told(server, hub, status):
    server.status = status
    assert_refused(server.url(NAME), f'the server answers {status}', 'by hand')
    assert kept(hub) == []


@pytest.mark.parametrize(
    'address',
    [
        *('http://[::1/x.pth', 'http://host:port/x.pth', 'http://.../x.pth', 'http://a b/x.pth'),
        *(f'http://{"a" * 100}.com/x.pth', 'http://127.0.0.1:9/x%00.pth', 'http://127.0.0.1:9/'),
        'nothing://host/x.pth',
    ],
)
def test_an_address_that_is_none_is_one_line(hub, address):
    assert_refused(address)


def test_a_name_too_long_for_the_disk_is_one_line(hub):
    with refused('cannot write'):
        fetch(f'http://127.0.0.1:9/{"x" * 400}.pth')


@pytest.mark.parametrize('name', ['模型.pth', 'a b.pth', 'a%20b.pth', 'é?x=ü'])
def test_addresses_may_be_as_browsers_show_them(server, hub, name):
    assert fetch(server.url(name), sha256=DIGEST).read_bytes() == CONTENT


def test_no_network_is_one_line(hub):
    with serve(CONTENT) as gone:
        pass
    assert_refused(gone.url(NAME), 'refused', 'try again when the network is there')


def test_a_server_that_falls_silent_is_given_up(hub, monkeypatch):
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    with socket.create_server(('127.0.0.1', 0)) as silent:
        url = f'http://127.0.0.1:{silent.getsockname()[1]}/{NAME}'
        assert_refused(url, 'timed out', 'try again when the network is there')
    assert socket.getdefaulttimeout() is None


def test_a_disk_that_cannot_be_written_is_told_from_a_bad_network(server, hub, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr('os.replace', Mock(side_effect=OSError(28, 'No space left on device')))
        with refused(r'cannot write .*No space left.*TORCH_HOME'):
            fetch(server.url(NAME))
    assert kept(hub) == []
    shutil.rmtree(hub.parent)
    hub.parent.write_text('')
    with refused(r'cannot write .*TORCH_HOME'):
        fetch(server.url(NAME))


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_several_processes_share_one_download(server, hub):
    server.delay = 0.05
    with multiprocessing.get_context('fork').Pool(4) as pool:
        assert pool.map(fetch, [server.url(NAME)] * 4, chunksize=1) == [hub / NAME] * 4
    assert server.asked == 1 and server.sent == len(CONTENT)
    assert kept(hub) == [NAME] and (hub / NAME).read_bytes() == CONTENT


def test_files_of_one_name_at_two_addresses_are_two_files(hub):
    one, two = (cache_path(f'https://example.com/{n}/model.safetensors') for n in 'ab')
    assert one != two and one.suffix == two.suffix == '.safetensors'
    # Those that a hash tells apart keep the place that torch's hub gives them.
    assert cache_path(f'https://example.com/a/{NAME}') == hub / NAME
    dated = 'net_20200804-5d6cec73.pth'
    for name, digest in ((dated, '5d6cec73'), ('net-f707e7126e.pth', 'f707e7126e')):
        assert digest_in(name) == digest
    # A date is none, nor is a version.
    assert not any(map(digest_in, (one.name, 'net-20200804.pth', 'net-v2.pth')))
