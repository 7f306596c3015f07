"""Downloads are whole and verified or absent, and go on where they broke off."""

import hashlib
import multiprocessing
import os
import random
from pathlib import Path

import pytest
import torch

from mmshuffle.errors import UserError
from mmshuffle.weights import read_tensors
from mmshuffle.weights.download import cache_path, digest_in, fetch
from tests.file_server import FileServer, serve, temporary_hub

CONTENT = random.Random(0).randbytes(1_000_000)
OTHER = random.Random(1).randbytes(1_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f'net-{DIGEST[:8]}.pth'
HALF = 500_000


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    return temporary_hub(tmp_path, monkeypatch)


@pytest.fixture
def server(hub) -> FileServer:
    with serve(CONTENT) as state:
        yield state


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_refused(url: str, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        fetch(url)
    message = str(caught.value)
    assert '\n' not in message
    assert all(part in message for part in (url, 'by hand', *parts)), message


def test_a_file_is_verified_and_fetched_once(server, hub):
    path = fetch(server.url(NAME))
    assert path == hub / NAME and path.read_bytes() == CONTENT
    assert names(hub) == [NAME]
    assert fetch(server.url(NAME)) == path
    assert server.asked == [None]


def test_a_dropped_connection_is_taken_up_again(server, hub):
    server.cuts = [HALF, 300_000]
    assert fetch(server.url(NAME)).read_bytes() == CONTENT
    assert server.asked == [None, 'bytes=500000-', 'bytes=800000-']
    assert server.sent == len(CONTENT)


@pytest.mark.parametrize(
    ('etag', 'modified'),
    [
        ('"one"', None),
        (None, 'Tue, 01 Jan 2019 00:00:00 GMT'),
        ('W/"one"', 'Tue, 01 Jan 2019 00:00:00 GMT'),
    ],
)
def test_a_later_run_goes_on_where_this_one_ended(server, hub, etag, modified):
    server.etag, server.modified = etag, modified
    server.cuts = [HALF, 0]
    assert_refused(server.url(NAME), 'the connection ended after 500000 of 1000000 bytes')
    assert not (hub / NAME).exists()
    server.asked.clear()
    assert fetch(server.url(NAME)).read_bytes() == CONTENT
    assert server.asked == ['bytes=500000-'] and server.sent == len(CONTENT)
    assert names(hub) == [NAME]


def interrupt(server: FileServer, name: str = 'net.pth') -> None:
    """Leave half of the file behind."""
    server.cuts = [HALF, 0]
    with pytest.raises(UserError, match='connection ended'):
        fetch(server.url(name))
    server.asked.clear()


def test_a_server_without_ranges_starts_over(server):
    interrupt(server)
    server.ranges = False
    assert fetch(server.url('net.pth')).read_bytes() == CONTENT
    assert server.asked == ['bytes=500000-']


def test_a_file_that_nothing_tells_from_its_next_version_starts_over(server):
    server.etag = None
    interrupt(server)
    assert fetch(server.url('net.pth')).read_bytes() == CONTENT
    assert server.asked == [None]


@pytest.mark.parametrize('checks', [True, False])
def test_a_file_that_changed_is_not_glued_to_the_old_one(server, checks):
    interrupt(server)
    server.content, server.etag, server.checks = OTHER, '"two"', checks
    assert fetch(server.url('net.pth')).read_bytes() == OTHER


def test_a_change_of_the_length_alone_is_seen(server):
    interrupt(server)
    server.content, server.checks = OTHER + b'more', False
    assert fetch(server.url('net.pth')).read_bytes() == OTHER + b'more'


def test_a_file_that_became_shorter_starts_over(server):
    interrupt(server)
    server.content, server.etag, server.checks = OTHER[:1000], '"two"', False
    assert fetch(server.url('net.pth')).read_bytes() == OTHER[:1000]
    assert server.asked == ['bytes=500000-', None]


def test_the_rest_of_another_address_is_not_taken(server, hub):
    """Two addresses share a name in the cache if their hashes are alike."""
    server.cuts = [HALF, 0]
    with pytest.raises(UserError, match='connection ended'):
        fetch(server.url('old/' + NAME))
    server.asked.clear()
    assert fetch(server.url('new/' + NAME)).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_wrong_hash_deletes_the_file_and_says_so(server, hub):
    assert_refused(server.url('net-0123456789.pth'), DIGEST[:10], '0123456789', 'deleted')
    assert not list(hub.glob('*.pth')) and not list(hub.glob('.*.partial*'))
    with pytest.raises(UserError, match='not ' + 'f' * 64):
        fetch(server.url('net.pth'), sha256='f' * 64)
    assert fetch(server.url('net.pth'), sha256=DIGEST).read_bytes() == CONTENT


def test_what_is_no_weight_file_is_refused(server, hub):
    server.kind = 'text/html; charset=utf-8'
    assert_refused(server.url(NAME), 'web page')
    server.status = 404
    assert_refused(server.url(NAME), '404 Not Found')
    assert not (hub / NAME).exists()
    with pytest.raises(UserError, match='names no weight file'):
        fetch('https://example.com/')


def test_no_network_is_one_line(hub):
    with serve(CONTENT) as gone:
        pass
    assert_refused(gone.url(NAME), 'refused', 'try again when the network is there')


def test_a_full_disk_is_told_from_a_bad_network(server, hub):
    if not Path('/dev/full').exists():
        pytest.skip('needs /dev/full')
    hub.mkdir(parents=True)
    (hub / f'.{NAME}.partial').symlink_to('/dev/full')
    with pytest.raises(UserError, match=r'cannot write .*No space left.*TORCH_HOME') as caught:
        fetch(server.url(NAME))
    assert '\n' not in str(caught.value) and not (hub / NAME).exists()


def test_a_cache_that_cannot_be_made_is_one_line(server, hub):
    hub.parent.write_text('')
    with pytest.raises(UserError, match=r'cannot write .*TORCH_HOME'):
        fetch(server.url(NAME))


def _fetch_in_process(url: str, queue) -> None:
    queue.put(hashlib.sha256(fetch(url).read_bytes()).hexdigest())


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore:.*fork.*:DeprecationWarning')
def test_several_processes_share_one_download(server, hub):
    server.delay = 0.05
    context = multiprocessing.get_context('fork')
    queue = context.Queue()
    started = [
        context.Process(target=_fetch_in_process, args=(server.url(NAME), queue)) for _ in range(4)
    ]
    for process in started:
        process.start()
    assert [queue.get(timeout=60) for _ in started] == [DIGEST] * 4
    for process in started:
        process.join()
    assert server.asked == [None] and server.sent == len(CONTENT)
    assert names(hub) == [NAME]


def test_files_of_one_name_at_two_addresses_are_two_files(hub):
    one, two = (cache_path(f'https://example.com/{n}/model.safetensors') for n in 'ab')
    assert one != two and one.suffix == two.suffix == '.safetensors'
    # Those that a hash tells apart keep the place that torch's hub gives them.
    assert cache_path(f'https://example.com/a/{NAME}') == hub / NAME
    assert digest_in(one.name) is None


def test_a_date_is_no_hash():
    assert digest_in('net-20200804.pth') is None
    assert digest_in('net_20200804-5d6cec73.pth') == '5d6cec73'
    assert digest_in('net-f707e7126e.pth') == 'f707e7126e'
    assert digest_in('net-v2.pth') is None


def test_weights_are_read_from_an_address(hub, tmp_path):
    torch.save({'a': torch.arange(3)}, tmp_path / 'a.pth')
    with serve((tmp_path / 'a.pth').read_bytes()) as server:
        assert read_tensors(server.url('a.pth'))['a'].tolist() == [0, 1, 2]
