"""Files of ``torch.save``, of either format, and other pickles, read by :class:`Unpickler`."""

import io
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from .unpickler import DTYPES, NUMBERS, Budget, Storage, Unpickler, Unread

MAGIC = 0x1950A86A20F9469CFC6C
# Types of numbers by the names that PyTorch's classes of tensors, and of storages, begin with.
STORAGE_TYPES = {
    torch.empty(0, dtype=dtype).type().removeprefix('torch.').removesuffix('Tensor'): dtype
    for name, dtype in DTYPES.items()
    if NUMBERS.fullmatch(name)
} | dict(QInt8=torch.int8, QUInt8=torch.uint8, QInt32=torch.int32, Untyped=None)


def read_archive(archive: zipfile.ZipFile, pickled: str, budget: Budget) -> Any:
    """Read the zip format, PyTorch's since 1.6; ``pickled`` is the name of its ``data.pkl``."""
    root = pickled.removesuffix('data.pkl')
    cache: dict[str, bytearray] = {}

    def read(name: str) -> bytearray:
        info = archive.getinfo(name)
        buffer = bytearray(info.file_size)
        with archive.open(info) as stream:
            if stream.readinto(buffer) != len(buffer):
                raise pickle.UnpicklingError('a storage that is cut short')
        return buffer

    def storage(pid: tuple) -> Storage:
        dtype, key, length = _describe(pid)
        if key not in cache:
            cache[key] = read(f'{root}data/{key}')
        if length > len(cache[key]):
            raise pickle.UnpicklingError('a storage that is cut short')
        return Storage(cache[key], dtype)

    order = f'{root}byteorder'
    if order in archive.namelist() and read(order).decode() != sys.byteorder:
        raise pickle.UnpicklingError('numbers in the byte order of another machine')
    content = archive.read(pickled)
    budget.spend(4 * len(content))
    return Unpickler(io.BytesIO(content), budget, storage).load()


def read_stream(stream: BinaryIO, budget: Budget, nested: bool = False) -> Any:
    """Read PyTorch's older format, also within a pickle, or a pickle of another origin."""
    found: dict[str, Storage] = {}

    def storage(pid: tuple) -> Storage:
        dtype, key, length = _describe(pid)
        if len(pid) > 5 and pid[5] is not None:
            raise pickle.UnpicklingError('a storage within a storage, of PyTorch before 0.4')
        if key not in found:
            budget.spend(length)
            found[key] = Storage(bytearray(length), dtype)
        return found[key]

    def load(storage: Callable[[tuple], Storage] | None = None) -> Any:
        # Storages of a pickle of another origin are files of this format, of torch.save.
        inner = None if nested else lambda held, budget: read_stream(io.BytesIO(held), budget, True)
        return Unpickler(stream, budget, storage, inner).load()

    content = load()
    if type(content) is not int or content != MAGIC:
        return content
    load(), load()  # version of the format, and the machine
    content = load(storage)
    keys = load()
    if sorted(keys) != sorted(found):
        raise pickle.UnpicklingError('storages that are missing')
    for key in keys:
        buffer = found[key].buffer
        (count,) = struct.unpack('<q', stream.read(8))
        itemsize = 1 if found[key].dtype is None else found[key].dtype.itemsize
        if count * itemsize != len(buffer) or stream.readinto(buffer) != len(buffer):
            raise pickle.UnpicklingError('a storage that is cut short')
    return content


def _describe(pid: tuple) -> tuple[torch.dtype | None, str, int]:
    """Type, key and length in bytes of the storage that a persistent id stands for."""
    _, kind, key, _, count = pid[:5]
    name = kind.name.rpartition('.')[2].removesuffix('Storage') if isinstance(kind, Unread) else ''
    if name not in STORAGE_TYPES or type(key) is not str or type(count) is not int or count < 0:
        raise pickle.UnpicklingError('a storage of unknown type')
    dtype = STORAGE_TYPES[name]
    return dtype, key, count * (1 if dtype is None else dtype.itemsize)
