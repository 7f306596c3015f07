"""Named weights stand where a path may, and the figures and networks beside the names are sound."""

import dataclasses
import hashlib
import re
from pathlib import Path
from unittest.mock import Mock

import mmengine
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint

from mmshuffle.backbones import ShuffleNetV2
from mmshuffle.weights import read_tensors, zoo
from mmshuffle.weights.families import FAMILIES
from mmshuffle.weights.reader import path_if_here
from mmshuffle.weights.zoo import ENTRIES, find_entry, find_remote
from tests.conftest import REPO, refused
from tests.file_server import serve

NAMES = [entry.name for entry in ENTRIES]


@pytest.mark.parametrize('entry', ENTRIES, ids=NAMES)
def test_every_entry_is_complete(entry):
    assert re.fullmatch(r'https://[\w./-]+\.(pth|safetensors)', entry.url)
    assert re.fullmatch(r'[0-9a-f]{8,64}', entry.digest)
    (family,) = (family for family in FAMILIES if family.name == entry.family)
    assert entry.network in family.networks
    assert 50 < entry.top1 < 80 and entry.source.startswith(entry.name.partition('/')[0])
    MODELS.build(entry.network)
    # The name of the file in the cache tells its hash and no two entries share it.
    assert f'-{entry.digest[:8]}' in entry.remote.file_name


def test_names_addresses_and_cached_files_are_unique():
    for values in zip(*((e.name, e.url, e.remote.file_name) for e in ENTRIES), strict=True):
        assert len(values) == len(set(values))
    assert len(zoo.BY_ALIAS) == sum(len(entry.aliases) for entry in ENTRIES)


def test_the_documentation_has_the_same_names_and_figures():
    text = (REPO / 'docs' / 'weights.md').read_text()
    rows = re.findall(r'^\| `mmshuffle://(\S+)` \|.*\| ([\d.]+) \| (.*) \|$', text, re.MULTILINE)
    assert rows == [(entry.name, f'{entry.top1:.2f}', entry.source) for entry in ENTRIES]


def test_an_entry_is_found_by_name_address_and_torchvision_name():
    entry = find_entry('mmshuffle://torchvision/shufflenetv2-x1.0')
    assert entry.network == dict(type='ShuffleNetV2', widen_factor=1.0, layout='torchvision')
    assert find_entry(entry.url) is entry
    suffixes = ('', '.imagenet1k_v1', '.default')
    names = ('shufflenetv2_x1.0', *(f'shufflenet_v2_x1_0{suffix}' for suffix in suffixes))
    for name in (*names, 'ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1'):
        assert find_entry(f'torchvision://{name}') is entry
    assert find_entry('shufflenetv2_x1.0') is None
    assert find_entry('https://example.com/shufflenetv2_x1-5666bf0f80.pth') is None


def test_torchvisions_names_lead_where_mmengine_lets_them_lead():
    path = Path(mmengine.__file__).parent / 'hub' / 'torchvision_0.12.json'
    urls = {name: url for name, url in mmengine.load(path).items() if url is not None}
    known = zoo.BY_ALIAS.keys() & urls.keys()
    assert len(known) == 6
    assert all(zoo.BY_ALIAS[name].url == urls[name] for name in known)


def test_other_names_of_torchvision_are_asked_of_torchvision(monkeypatch):
    urls = {'resnet50': 'https://download.pytorch.org/models/resnet50-0676ba61.pth', 'a': None}
    monkeypatch.setattr(zoo.mmengine_checkpoint, 'get_torchvision_models', lambda: urls)
    assert find_remote('torchvision://resnet50').url == urls['resnet50']
    for name in ('a', 'resnet5'):
        with refused(f'torchvision has no weights {name};'):
            find_remote(f'torchvision://{name}')


@pytest.mark.parametrize(
    'error',
    [
        ImportError("No module named 'torchvision'"),
        # What an installation beside another PyTorch than its own ends with.
        RuntimeError('operator torchvision::nms does not exist\nmore'),
    ],
)
def test_without_torchvision_its_other_names_are_one_clear_line(monkeypatch, error):
    monkeypatch.setattr(zoo.mmengine_checkpoint, 'get_torchvision_models', Mock(side_effect=error))
    with refused(r'torchvision://resnet50 needs torchvision'):
        read_tensors('torchvision://resnet50')
    assert find_remote('torchvision://alexnet').url.endswith('alexnet-owt-7be5be79.pth')


def test_what_is_no_name_is_refused_with_the_nearest():
    with refused(r'meant mmshuffle://torchvision/squeezenet-1\.1'):
        read_tensors('mmshuffle://squeezenet1_1')
    for name in ('open-mmlab://absent', 'mmcls://absent', 'openmmlab://'):
        with refused('has no weights'):
            read_tensors(name)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def published(hub, tmp_path, monkeypatch):
    """A zoo name whose file is on this machine's server."""
    donor = ShuffleNetV2(0.5, 'torchvision')
    torch.save(donor.state_dict(), tmp_path / 'a.pth')
    with serve((tmp_path / 'a.pth').read_bytes()) as server:
        file = dict(url=server.url('model.pth'), sha256=sha256_of(tmp_path / 'a.pth'))
        entry = dataclasses.replace(find_entry('mmshuffle://timm/mobilenetv1-x1.0'), **file)
        monkeypatch.setitem(zoo.BY_NAME, entry.name, entry)
        yield donor, f'mmshuffle://{entry.name}', server


def test_a_name_stands_where_a_path_may(published, hub):
    donor, name, server = published
    wanted = donor.state_dict()
    init_cfg = dict(type='Pretrained', checkpoint=name)
    net = ShuffleNetV2(0.5, 'torchvision', init_cfg=init_cfg)
    net.init_weights()
    other = ShuffleNetV2(0.5, 'torchvision')
    load_checkpoint(other, name, map_location='cpu', strict=True)
    for state in (net.state_dict(), other.state_dict()):
        assert all(torch.equal(state[key], wanted[key]) for key in wanted)
    assert server.asked == 1
    (cached,) = hub.glob('*.pth')
    assert cached.name == f'timm_mobilenetv1-x1.0-{sha256_of(cached)[:8]}.pth'


def test_another_file_than_the_published_is_refused(published, hub):
    _, name, server = published
    server.content = server.content[:-1] + b'x'
    with refused('not the file that was published'):
        read_tensors(name)
    assert not list(hub.glob('*.pth'))


def test_looking_for_a_cached_file_downloads_nothing(published, tmp_path, monkeypatch):
    _, name, server = published
    asked = Mock()
    monkeypatch.setattr(zoo.mmengine_checkpoint, 'get_torchvision_models', asked)
    for absent in (name, server.url('b.pth'), 'torchvision://resnet50', str(tmp_path / 'c.pth')):
        assert path_if_here(absent) is None
    assert server.asked == 0 and not asked.called
    read_tensors(name)
    assert path_if_here(name).is_file() and path_if_here(tmp_path / 'a.pth') == tmp_path / 'a.pth'
