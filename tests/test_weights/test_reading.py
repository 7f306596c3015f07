"""Any weight file is read by its content, as tensors and plain data, and nothing in it is run."""

import bz2
import copyreg
import gzip
import io
import lzma
import os
import pickle
import re
import sys
import tarfile
import zipfile
from collections import Counter, OrderedDict, defaultdict
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import mmengine.fileio
import numpy as np
import pytest
import safetensors.torch
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmshuffle.errors import UserError
from mmshuffle.weights import read_checkpoint, read_tensors, reader
from mmshuffle.weights.reader import path_if_here
from mmshuffle.weights.torch_file import MAGIC
from mmshuffle.weights.unpickler import Unread
from tests.conftest import refused
from tests.file_server import serve

BASE = torch.arange(24.0)
STATE = {
    'a.weight': torch.rand(4, 3, 2),
    'a.f16': torch.rand(5).half(),
    'a.bf16': torch.rand(5).bfloat16(),
    'a.f64': torch.rand(2, 2).double(),
    'a.num_batches_tracked': torch.tensor(7),
    'a.mask': torch.tensor([True, False]),
    'a.empty': torch.rand(0, 3),
    'a.part': BASE[3:9],
    'a.other_part': BASE[8:].view(4, 4),
    'a.transposed': torch.rand(3, 4).t(),
    'a.expanded': torch.rand(3, 1).expand(3, 5),
    'a.parameter': nn.Parameter(torch.rand(3)),
}
PLAIN = {name: value.detach().contiguous().clone() for name, value in STATE.items()}
ARRAYS = {n: v.numpy() for n, v in PLAIN.items() if v.dtype != torch.bfloat16}


def saved(content, **kwargs) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **kwargs)
    return buffer.getvalue()


def npz(arrays, save=np.savez) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


npz_compressed = partial(npz, save=np.savez_compressed)


class Whole(nn.Module):
    """A module that people save as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Module()
        for name, value in STATE.items():
            self.a.register_buffer(name.removeprefix('a.'), value.detach())


LEGACY = dict(_use_new_zipfile_serialization=False)
FORMATS = {
    **{f'zip-{n}': partial(saved, STATE, pickle_protocol=n) for n in (2, 4, 5)},
    'legacy': partial(saved, STATE, **LEGACY),
    'state-dict': lambda: saved(OrderedDict(STATE)),
    'module': lambda: saved(Whole()),
    'module-legacy': lambda: saved(Whole(), **LEGACY),
    **{f'pickle-{n}': partial(pickle.dumps, STATE, n) for n in range(2, 6)},
    'safetensors': partial(safetensors.torch.save, PLAIN),
    'arrays-npz': partial(npz, ARRAYS),
    'arrays-npz-compressed': partial(npz_compressed, ARRAYS),
    **{f'arrays-pickle-{n}': partial(pickle.dumps, ARRAYS, n) for n in range(6)},
    'arrays-zip': partial(saved, ARRAYS),
}


@pytest.mark.parametrize('form', FORMATS)
def test_every_format_gives_the_same_tensors_whatever_the_file_is_called(form, tmp_path):
    content = FORMATS[form]()
    wanted = {n: PLAIN[n] for n in (ARRAYS if form.startswith('arrays') else PLAIN)}
    for name in ('a.pth.tar', 'a.bin', 'a.CKPT', 'a.pkl', 'a.npz', 'a.safetensors', 'a'):
        (tmp_path / name).write_bytes(content)
        found = read_tensors(tmp_path / name)
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert found[key].dtype == value.dtype and found[key].shape == value.shape
            assert torch.equal(found[key], value) and not found[key].requires_grad


def test_tensors_that_shared_memory_share_it_again(tmp_path):
    for kwargs in ({}, LEGACY):
        (tmp_path / 'a.pth').write_bytes(saved(STATE, **kwargs))
        found = read_checkpoint(tmp_path / 'a.pth')
        found['a.part'][-1] = -1
        assert found['a.other_part'][0, 0] == -1 and found['a.part'][0] == 3


class Setting(dict):
    """Such as mmengine's Config."""


@pytest.mark.parametrize('format', [{}, LEGACY])
@pytest.mark.parametrize('protocol', [2, 4])
def test_plain_data_is_kept_and_objects_are_stood_in_for(format, protocol, tmp_path):
    plain = {
        'numbers': [1, 2.5, None, True, 1 << 70, 2 + 3j],
        'text': ('a', 'ä', b'bytes\xff'),
        'set': {1, 2},
        'scalars': [np.float64(0.5), np.int64(3), np.float32(1.5), np.bool_(True)],
        'array': np.arange(6, dtype='>i4').reshape(2, 3),
        'words': np.array(['a', 'bc']),
        'fortran': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        'shape': torch.Size([1, 2]),
        'dtype': torch.float16,
        'default': defaultdict(int, a=1),
        'counts': Counter({3: 2}),
        ('key', 1): 'value',
    }
    objects = {
        'history': HistoryBuffer([1.0, 2.5], [1, 2], max_length=7),
        'when': datetime(2024, 1, 1),
        'method': HistoryBuffer.mean,
        'path': Path('a'),
        'config': Setting(a=1),
        'module': nn.Linear(2, 2),
        datetime(2024, 1, 2): 1,
    }
    content = {'plain': plain, 'objects': objects, 'versions': nn.BatchNorm2d(2).state_dict()}
    content['again'] = plain['array']
    (tmp_path / 'a.pth').write_bytes(saved(content, pickle_protocol=protocol, **format))
    found = read_checkpoint(tmp_path / 'a.pth')
    assert found['plain'].keys() == plain.keys()
    for key, value in plain.items():
        if isinstance(value, np.ndarray):
            assert found['plain'][key].dtype == value.dtype.newbyteorder('=')
            assert np.array_equal(found['plain'][key], value)
        else:
            assert found['plain'][key] == value
    assert found['again'] is found['plain']['array']
    assert found['versions']._metadata == content['versions']._metadata
    assert all(isinstance(found['objects'][key], Unread) for key in objects if key in found)
    stand_in = found['objects']['history']
    assert stand_in.name == 'mmengine.logging.history_buffer.HistoryBuffer'
    assert stand_in.state['_log_history'].tolist() == [1.0, 2.5]
    assert dict(found['objects']['config']) == {'a': 1}


CODE = "import os; os.environ['HOSTILE'] = 'ran'"
ARGUMENT = f'V{CODE}\n'.encode()
EXEC = b'cbuiltins\nexec\n'
CALL = ARGUMENT + b'\x85R.'
THING = b'chostile_module\nThing\n'
HOSTILE = {
    'reduce': EXEC + CALL,
    'python2': b'c__builtin__\nexec\n' + CALL,
    'stack-global': b'\x80\x04\x8c\x08builtins\x8c\x04exec\x93' + CALL,
    'inst': b'(' + ARGUMENT + b'ibuiltins\nexec\n.',
    'obj': b'(' + EXEC + ARGUMENT + b'o.',
    'newobj': b'\x80\x02' + EXEC + ARGUMENT + b'\x85\x81.',
    'newobj-ex': b'\x80\x04' + EXEC + ARGUMENT + b'\x85}\x92.',
    'extension': b'\x80\x02\x82\x7f' + CALL,
    'import': THING + b')R.',
    'setstate': b'\x80\x02' + THING + b')\x81' + ARGUMENT + b'b.',
    'setitem': b'\x80\x02' + THING + b')\x81VA\nVB\ns.',
    'getattr': b'cbuiltins\ngetattr\ncbuiltins\n__import__\nV__call__\n\x86R'
    b'Vhostile_module\n\x85R.',
    'dotted': b'\x80\x04\x8c\x0fhostile_module.\x8c\x05Thing\x93)R.',
    'partial': b'cfunctools\npartial\n' + EXEC + ARGUMENT + b'\x86R)R.',
    'reconstructor': b'ccopyreg\n_reconstructor\n(' + THING + b'cbuiltins\nobject\nNtR.',
    'subclass': b'ctorch._tensor\n_rebuild_from_type_v2\n(' + EXEC + b'N' + ARGUMENT + b'\x85}tR.',
    'default-factory': b'ccollections\ndefaultdict\n' + EXEC + b'\x85R' + ARGUMENT + b'K\x01s.',
    'sorted-keys': b'ccollections\nOrderedDict\n' + THING + b')R\x85R.',
    'parameter': b'ctorch._utils\n_rebuild_parameter\n' + EXEC + b'\x89}\x87R' + CALL,
    'codecs': b'c_codecs\nencode\nVhostile_module\nVhostile_module\n\x86R.',
    'persistent': b'PV' + CODE.encode() + b'\n.',
    'hub': b'ctorch.hub\nload\nVhostile\nVmodel\n\x86R.',
    'state-of-tensors': b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}(V__code__\nK\x01ub0N.',
}


FOUR = np.arange(4, dtype=np.float32).tobytes()


def as_legacy(program: bytes, keys: tuple = (), rest: bytes = b'') -> bytes:
    begin = b''.join(pickle.dumps(part, 2) for part in (MAGIC, 1001, {'little_endian': True}))
    return begin + program + pickle.dumps(list(keys), 2) + rest


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def as_zip(program: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    # The one storage has four numbers.
    return zipped({'archive/data.pkl': program, 'archive/data/0': FOUR}, compression)


deflated = partial(as_zip, compression=zipfile.ZIP_DEFLATED)


def as_npy(program: bytes) -> bytes:
    array = io.BytesIO()
    np.lib.format.write_array_header_1_0(array, dict(descr='|O', fortran_order=False, shape=(1,)))
    return array.getvalue() + program


CONTAINERS = (bytes, as_legacy, as_zip, as_npy, lambda program: zipped({'a.npy': as_npy(program)}))


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Fails the test if anything of a hostile file was run."""
    folder = tmp_path / 'modules'
    folder.mkdir()
    thing = 'class Thing:\n    def __setstate__(self, state): exec(state)\n'
    (folder / 'hostile_module.py').write_text(f'{CODE}\n{thing}')
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv('HOSTILE', raising=False)
    # Also where the process has made something of the number already.
    copyreg.add_extension('builtins', 'exec', 0x7F)
    monkeypatch.setitem(copyreg._extension_cache, 0x7F, exec)
    yield
    copyreg.remove_extension('builtins', 'exec', 0x7F)
    assert 'HOSTILE' not in os.environ and 'hostile_module' not in sys.modules


@pytest.mark.parametrize('wrap', CONTAINERS)
def test_nothing_in_a_file_is_run(wrap, tmp_path, trap):
    for name, program in HOSTILE.items():
        (tmp_path / name).write_bytes(wrap(program))
        for read in (read_checkpoint, read_tensors, CheckpointLoader.load_checkpoint):
            try:
                read(str(tmp_path / name))
            except UserError as error:
                assert name in str(error) and '\n' not in str(error)


def test_the_trap_catches_what_an_ordinary_unpickler_runs(monkeypatch):
    monkeypatch.delenv('HOSTILE', raising=False)
    for name in ('reduce', 'python2', 'stack-global', 'inst', 'obj', 'partial'):
        pickle.loads(HOSTILE[name])
        assert os.environ.pop('HOSTILE') == 'ran'


SCHEMES = {
    **dict.fromkeys(('torchvision://resnet50', 'modelzoo://resnet50'), 'get_torchvision_models'),
    **dict.fromkeys(('open-mmlab://resnet50', 'openmmlab://resnet50'), 'get_external_models'),
    'mmcls://resnet50': 'get_mmcls_models',
    **dict.fromkeys(('http', 'pavi://folder/resnet50', 's3://bucket/resnet50.pth')),
    **dict.fromkeys(('cluster:s3://bucket/resnet50.pth', 'petrel://bucket/resnet50.pth')),
}


@pytest.fixture
def fetched(hub, monkeypatch):
    """Makes every scheme give some bytes."""
    with serve(b'') as server:
        for function in filter(None, SCHEMES.values()):
            answer = {'resnet50': server.url('resnet50.pth')}
            monkeypatch.setattr(mmengine_checkpoint, function, lambda answer=answer: answer)
        monkeypatch.setattr(mmengine.fileio, 'get', lambda source: server.content)
        # mmengine's own readers would go on to this one.
        monkeypatch.setattr(torch, 'load', lambda *a, **k: pytest.fail('torch.load was called'))
        yield server


@pytest.mark.parametrize('scheme', SCHEMES)
def test_every_scheme_is_read_in_this_way(scheme, fetched, hub, trap):
    source = fetched.url('a.pth') if scheme == 'http' else scheme
    for wrap in CONTAINERS:
        fetched.content = wrap(HOSTILE['reduce'])
        try:
            CheckpointLoader.load_checkpoint(source)
        except UserError as error:
            assert 'torch.load' not in str(error)
        for path in hub.glob('*.pth'):
            path.unlink()
    fetched.content = saved({'state_dict': {'backbone.a': torch.ones(2), 'b': torch.ones(1)}})
    state = CheckpointLoader.load_checkpoint(source)['state_dict']
    # As mmengine does for these.
    assert state.keys() == ({'a'} if scheme.startswith('mmcls') else {'backbone.a', 'b'})


class Made:
    def __init__(self, function, *args) -> None:
        self.call = function, args

    def __reduce__(self):
        return self.call


class Stored:
    """Pickled as a persistent id of a storage of ``count`` numbers."""

    def __init__(self, count: int, kind=torch.FloatStorage, key='0') -> None:
        self.pid = ('storage', kind, key, 'cpu', count)


def program(content) -> bytes:
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Stored) else None

    buffer = io.BytesIO()
    Pickler(buffer, 2).dump(content)
    return buffer.getvalue()


def tensor(offset, size, stride, count=4, dtype=None, **kwargs) -> Made:
    if dtype is not None:
        storage, hooks = Stored(16, torch.UntypedStorage), OrderedDict()
        function = torch._utils._rebuild_tensor_v3
        return Made(function, storage, offset, size, stride, False, hooks, dtype)
    function = torch._utils._rebuild_tensor_v2
    return Made(function, Stored(count, **kwargs), offset, size, stride, False, OrderedDict())


HUGE = 1 << 40
IMPOSSIBLE = {
    'size': tensor(0, (5,), (1,)),
    'huge-size': tensor(0, (HUGE, HUGE), (HUGE, 1)),
    'overflow': tensor(0, (1 << 62, 4), (4, 1)),
    'offset': tensor(4, (1,), (1,)),
    'negative-offset': tensor(-1, (1,), (1,)),
    'stride': tensor(0, (2,), (4,)),
    'negative-stride': tensor(3, (2,), (-1,)),
    'negative-size': tensor(0, (-1, -4), (1, 1)),
    'repeated': tensor(0, (HUGE,), (0,)),
    'dimensions': tensor(0, (2, 2), (1,)),
    'storage': tensor(0, (HUGE,), (1,), count=HUGE),
    'storage-type': tensor(0, (1,), (1,), kind=OrderedDict),
    'storage-of-nothing': tensor(0, (1,), (1,), key='1'),
    'text-for-numbers': tensor('0', ('1',), ('1',)),
    'copies': [tensor(0, (1 << 24,), (0,)) for _ in range(2)],
    'quantised': tensor(0, (1,), (1,), dtype=torch.quint8),
    'bits': tensor(0, (1,), (1,), dtype=torch.bits8),
    'conjugated': Made(
        torch._utils._rebuild_tensor_v2, Stored(4), 0, (1,), (1,), False, None, {'neg': True}
    ),
    'no-storage': Made(torch._utils._rebuild_tensor_v2, b'', 0, (1,), (1,), False, None),
}


@pytest.mark.parametrize('case', IMPOSSIBLE)
def test_numbers_that_a_file_declares_are_held_against_its_bytes(case, tmp_path):
    pickled = program({'a': IMPOSSIBLE[case]})
    legacy = as_legacy(pickled, ('0',), (4).to_bytes(8, 'little') + FOUR)
    for content in (as_zip(pickled), legacy):
        (tmp_path / 'a.pth').write_bytes(content)
        with refused(r'a\.pth is damaged'):
            read_checkpoint(tmp_path / 'a.pth')


def many(part: bytes, call: bytes, count: int = 2000) -> bytes:
    """A pickle that makes one large thing and copies it many times."""
    return b'\x80\x02' + part + b'q\x010(' + (call * count) + b'l.'


TEXT = b'X' + (500_000).to_bytes(4, 'little') + b'x' * 500_000
LIST = b'(' + b'N' * 500_000 + b'l'
FROM_BYTES = b'ctorch.storage\n_load_from_bytes\nh\x01\x85R'
# A list of two lists, each of the same two, and so on; and mappings likewise.
COUNT = [bytes([i]) for i in range(1, 60)]
PAIRS = b'\x80\x02]' + b''.join(b'q%b0]h%bah%ba' % (i, i, i) for i in COUNT)
MAPS = b'\x80\x02}' + b''.join(b'q%b0}VA\nh%bsVB\nh%bs' % (i, i, i) for i in COUNT)


@pytest.mark.parametrize(
    'bomb',
    [
        many(TEXT, b'c_codecs\nencode\nh\x01Vlatin1\n\x86R'),
        many(LIST, b'ccollections\ndeque\nh\x01\x85R'),
        many(LIST, b'ctorch\nSize\nh\x01\x85R'),
        many(LIST, b'ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\ndeque\nNh\x01\x85}tR'),
        b'ctorch\ndevice\n' + PAIRS[2:] + b'\x85R.',
        MAPS + b'.',
        b'\x80\x02' + b'}' * 5_000_000 + b'.',
        b'\x80\x02' + b'(' * 5_000_000 + b'.',
        b'\x80\x04N' + b'\x94' * 5_000_000 + b'.',
        b'cx\ny\nq\x00' + b'h\x00)R' * 1_250_000 + b'.',
        many(b'B' + (500_001).to_bytes(4, 'little') + b'}' * 500_000 + b'.', FROM_BYTES),
        lambda: deflated(b'\x80\x02' + b'}' * 50_000_000 + b'.'),
        lambda: deflated(b'\x80\x02X' + (80 << 20).to_bytes(4, 'little') + bytes(80 << 20) + b'.'),
        # A member that declares 2 GiB.
        as_zip(b'\x80\x02N.').replace(b'\x04\x00\x00\x00' * 2, b'\xff\xff\xff\x7f' * 2),
        lambda: npz_compressed({'a': np.zeros(1 << 26)}),
        many(TEXT, FROM_BYTES),
        pickle.dumps(Made(np.zeros(3).__reduce__()[0], np.ndarray, (HUGE,), b'b')),
        b'\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85'
        b'cnumpy\ndtype\nVf8\n\x85R\x89C\x08aaaaaaaatb.',
        b'\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.',
        b'\x80\x02r\xff\xff\xff\x7fN.',
        b'\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00.',
        b'\x80\x05\x96\xff\xff\xff\xff\x07\x00\x00\x00.',
        b'\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.',
    ],
)
def test_a_small_file_does_not_fill_the_memory(bomb, tmp_path):
    resource = pytest.importorskip('resource')
    (tmp_path / 'a.pth').write_bytes(bomb() if callable(bomb) else bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_tensors(tmp_path / 'a.pth')
    except UserError as error:
        assert re.search(r'a\.pth (is damaged|has no tensors|would expand)', str(error))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


DEEP = b'N' + b'\x85' * 300_000
# A tuple of a tuple twice, and so on.
WIDE = b')' + b''.join(b'q%bh%b\x86' % (i, i) for i in COUNT)


@pytest.mark.parametrize('key', [DEEP, WIDE])
@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (b'}', b'Ns.'),
        (b'}(', b'Nu.'),
        (b'(', b'Nd.'),
        (b'(', b'\x91.'),
        (b'\x8f(', b'\x90.'),
        (b'cbuiltins\nset\n(', b'l\x85R.'),
        (b'cbuiltins\nfrozenset\n(', b'l\x85R.'),
        (b'ccollections\nOrderedDict\n(', b'N\x86l\x85R.'),
        (b'ccollections\nCounter\n(', b'N\x86l\x85R.'),
    ],
)
def test_a_key_without_end_is_not_hashed(key, before, after, tmp_path):
    (tmp_path / 'a.pth').write_bytes(b'\x80\x04' + before + key + after)
    with refused('a key of many parts'):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize('length', [0x3C, 0x3C20, 0x8B1F, 0x685A42, 0x4B50])
def test_safetensors_are_told_whatever_the_length_of_their_header_looks_like(length, tmp_path):
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    content = length.to_bytes(8, 'little') + header + np.float32(2).tobytes()
    (tmp_path / 'a').write_bytes(content)
    assert read_tensors(tmp_path / 'a')['a'].tolist() == [2]


@pytest.mark.parametrize('form', [npz, pickle.dumps, saved])
def test_arrays_of_any_numbers_are_read_and_others_left_out(form, tmp_path):
    kinds = ('g', 'G', '>f4', '>i8', '<u2', 'f2', '?', 'b')
    numbers = {kind: np.arange(3).astype(kind) for kind in kinds}
    content = numbers | dict(text=np.array(['a']), objects=np.array([{'a': 1}, None]))
    if form is npz:
        content['when'] = np.array(['2020-01-01'], 'M8[D]')
        content['fields'] = np.zeros(2, [('x', 'f4')])
    (tmp_path / 'a').write_bytes(form(content))
    found = read_tensors(tmp_path / 'a')
    assert found.keys() == numbers.keys()
    assert all(np.array_equal(value, numbers[name]) for name, value in found.items())


WEIGHTS = saved(STATE)
STRANGERS = {
    'it is empty': lambda: b'',
    'one array without a name': lambda: npz({'arr': np.ones(2)}, np.save),
    'HDF5': lambda: b'\x89HDF\r\n\x1a\n' + bytes(100),
    'gunzip': lambda: gzip.compress(WEIGHTS),
    'bunzip2': lambda: bz2.compress(WEIGHTS),
    'unxz': lambda: lzma.compress(WEIGHTS),
    'tar': lambda: tarfile.TarInfo('a.pth').tobuf() + bytes(1024),
    'git lfs pull': lambda: b'version https://git-lfs.github.com/spec/v1\noid sha256:0a\n',
    'web page': lambda: b'\n <!DOCTYPE html><html></html>',
    'TorchScript': lambda: torch.jit.trace(nn.ReLU(), torch.ones(1)).save_to_buffer(),
    'archive without tensors': lambda: zipped({'config.json': b'{}'}),
    'has no tensors': lambda: saved({'epoch': 3, 'optimizer': {'state': {0: torch.ones(1)}}}),
    'no tensors by name in it': lambda: saved({'meta': {}, 'state_dict': [torch.ones(1)]}),
    'no tensors by name': lambda: saved(list(STATE.values())),
    'damaged, or no weight file': lambda: b'not weights',
    'no weight file .no pickle': lambda: bytes(100),
    'damaged': lambda: b'\x80\x02.',
}


@pytest.mark.parametrize('told', STRANGERS)
def test_what_is_no_weight_file_is_told_in_one_line(told, tmp_path):
    (tmp_path / 'a.pth').write_bytes(STRANGERS[told]())
    for read in (read_tensors, CheckpointLoader.load_checkpoint):
        with refused(told) as caught:
            read(str(tmp_path / 'a.pth'))
        assert 'a.pth' in str(caught.value)


def test_a_path_that_is_no_file_is_told(tmp_path):
    with refused('is a folder'):
        read_tensors(tmp_path)
    with refused('does not exist'):
        read_tensors(tmp_path / 'a.pth')
    with refused('cannot be fetched'):
        read_tensors('ftp://example.com/a.pth')
    for path in ('x' * 300, 'a/' * 3000, 'a\0b', '', '~nobody/a.pth'):
        assert path_if_here(path) is None
        with pytest.raises(UserError):
            read_tensors(path)


def test_a_disk_that_fails_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'a.pth').write_bytes(b'x')
    monkeypatch.setattr(reader, '_read', Mock(side_effect=OSError(5, 'Input/output error')))
    with refused(r'a\.pth cannot be read: Input/output'):
        read_tensors(tmp_path / 'a.pth')


@pytest.mark.parametrize('name', [n for n in FORMATS if n[:6] != 'arrays' or 'compressed' in n])
def test_a_file_that_is_cut_short_or_altered_is_damaged(name, tmp_path):
    whole = FORMATS[name]()
    path = tmp_path / 'a.pth'
    for tenths in range(1, 10):
        path.write_bytes(whole[: len(whole) * tenths // 10])
        with refused(r'a\.pth is damaged'):
            read_tensors(path)
    # Formats with a checksum see every change; of the others what is read is tensors, or an error.
    for place in range(50, len(whole), len(whole) // 50):
        path.write_bytes(whole[:place] + b'\xff\xff\xff' + whole[place + 3 :])
        try:
            read_tensors(path)
        except UserError as error:
            assert '\n' not in str(error)
