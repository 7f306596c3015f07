"""An unpickler that rebuilds tensors, arrays and plain containers, and nothing else.

A pickle is a program: it names functions of any module and calls them. Here a name is an
:class:`Unread`, which stands for one of :data:`BUILDERS`, this module's own, or for nothing: then
what it would have made is another. No name is imported, and nothing that a file can reach is
called, indexed or written to but what is made here. What a file declares, such as shapes and the
lengths of storages, is held against the bytes that it has.
"""

import collections
import math
import pickle
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

MAX_DIMENSIONS = 64
# Parts of a tuple that is a key, and how deep tuples may lie in it: they are hashed by recursion.
MAX_KEY, MAX_KEY_DEPTH = 64, 2
DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
# Types with which PyTorch computes, unlike parts of bytes and quantised numbers.
NUMBERS = re.compile(
    r'torch\.(bool|u?int(8|16|32|64)|bfloat16|float(16|32|64|8_\w+)|complex(64|128))'
)
# Modules that had other names in other versions.
MODULES = {
    '__builtin__': 'builtins',
    'copy_reg': 'copyreg',
    'numpy._core.multiarray': 'numpy.core.multiarray',
    'numpy._core.numeric': 'numpy.core.numeric',
}
# Where a pickle that torch.save did not write keeps a storage: a file of torch.save within it.
NESTED = 'torch.storage._load_from_bytes'
# Calls another function, whose tensor had attributes.
WITH_ATTRIBUTES = 'torch._tensor._rebuild_from_type_v2'


class Budget:
    """Bytes that may be made of a file of ``size`` bytes: about four times as many, and 64 MiB."""

    def __init__(self, size: int) -> None:
        self.left = 4 * size + (1 << 26)

    def spend(self, amount: int) -> None:
        """Refuse a file that makes more, such as many copies of one large object."""
        self.left -= amount
        if self.left < 0:
            raise pickle.UnpicklingError('more data than the file has')


class Unread(dict):
    """Stands for what is no plain data, such as a class or its objects, and does nothing.

    Attributes:
        name: Module and name of what the file asked for.
        args: What it would have been made of.
        state: What its attributes would have been made of.
    """

    def __init__(self, name: str, args: tuple = ()) -> None:
        super().__init__()
        self.name = name
        self.args = args
        self.state: Any = None

    # Other than dictionaries, objects may be keys and members of sets.
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f'<{self.name}, not read>'


@dataclass(eq=False)
class Storage:
    """Bytes of tensors, in the legacy format given after the tensors; ``dtype`` may be theirs."""

    buffer: bytearray
    dtype: torch.dtype | None


@dataclass(eq=False)
class ArrayType:
    """Stands for a numpy dtype, whose byte order comes after it."""

    code: str
    order: str = '='

    def numpy(self) -> np.dtype:
        """The type, if it is one of numbers, text or objects."""
        if not re.fullmatch(r'[biufcSUO][1-9]\d{0,8}', self.code) or self.order not in '<>=|':
            raise pickle.UnpicklingError(f'an array of {self.code[:20]!r}')
        return np.dtype(self.order + self.code)


def _tensor(storage, offset, size, stride, _=None, hooks=None, metadata=None, dtype=None) -> Tensor:
    """Make a tensor of a storage, of its type where ``dtype`` is None, if all of it lies inside."""
    dtype = dtype or getattr(storage, 'dtype', None)
    if metadata:  # that it is the conjugate, or the negative, of what is stored
        raise pickle.UnpicklingError('a view of other numbers')
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError('a tensor without a storage')
    if not NUMBERS.fullmatch(str(dtype)):
        raise pickle.UnpicklingError(f'a tensor of {dtype}')
    numbers = (offset, *size, *stride)
    if (
        not all(type(n) is int and 0 <= n < 1 << 48 for n in numbers)
        or not len(size) == len(stride) <= MAX_DIMENSIONS
    ):
        raise pickle.UnpicklingError('a tensor of impossible shape')
    count = math.prod(size)
    if not count:
        return torch.empty(size, dtype=dtype)
    held = len(storage.buffer) // dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= held:
        raise pickle.UnpicklingError('a tensor larger than its storage')
    flat = torch.frombuffer(storage.buffer, dtype=dtype, count=held)
    # Not a view of `flat`, which autograd would tie to it.
    return torch.empty(0, dtype=dtype).set_(flat.untyped_storage(), offset, size, stride)


def _array(raw: bytes, kind: ArrayType, shape: tuple, order: str) -> np.ndarray:
    return np.frombuffer(raw, kind.numpy()).reshape(shape, order=order).copy(order)


def _scalar(kind: ArrayType, content: bytes | str) -> complex | str | bytes:
    return np.frombuffer(_bytes(content), kind.numpy(), 1)[0].item()


def _items(given: Any = ()) -> list | tuple:
    if type(given) not in (list, tuple):
        raise pickle.UnpicklingError('a container of no list')
    return given


def _keys(given: Any, depth: int = 0) -> Any:
    for key in given:
        if type(key) is tuple:
            if len(key) > MAX_KEY or depth == MAX_KEY_DEPTH:
                raise pickle.UnpicklingError('a key of many parts')
            _keys(key, depth + 1)
    return given


def _pairs(given: Any = ()) -> list:
    pairs = [(key, value) for key, value in _items(given)]
    _keys(key for key, _ in pairs)
    return pairs


def _bytes(content: bytes | str) -> bytes:
    # Python 2 wrote bytes as text.
    return content.encode('latin1') if isinstance(content, str) else content


BUILDERS: dict[str, Callable] = {
    '_codecs.encode': lambda text, encoding='latin1': text.encode('latin1'),
    'builtins.bytearray': lambda content=b'', *_: _bytes(content),
    'builtins.bytes': lambda: b'',  # others of the protocols without bytes are encoded text
    'builtins.complex': lambda real, imag: complex(float(real), float(imag)),
    'builtins.frozenset': lambda given=(): frozenset(_keys(_items(given))),
    'builtins.set': lambda given=(): set(_keys(_items(given))),
    'collections.Counter': lambda given=(): dict(given if type(given) is dict else _pairs(given)),
    'collections.OrderedDict': lambda given=(): collections.OrderedDict(_pairs(given)),
    'collections.defaultdict': lambda *_: {},
    'collections.deque': lambda given=(), *_: list(_items(given)),
    'copyreg._reconstructor': lambda cls, *_: Unread(cls.name),
    'numpy.core.multiarray._reconstruct': lambda *_: np.empty(0),
    'numpy.core.multiarray.scalar': _scalar,
    'numpy.core.numeric._frombuffer': _array,
    'numpy.dtype': lambda code, *_: ArrayType(code),
    'torch.Size': lambda given=(): torch.Size(_items(given)),
    'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
    'torch._utils._rebuild_parameter_with_state': lambda tensor, *_: tensor,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': lambda *args: _tensor(*args[:6], *args[7:], dtype=args[6]),
    'torch.device': lambda *args: ':'.join(str(a) for a in args if type(a) in (str, int)),
}


# Bytes that an operation makes beyond what it reads, at most; others a number, and its place.
COSTS = {
    **{code[0]: 72 for code in (pickle.EMPTY_DICT, pickle.EMPTY_LIST, pickle.DICT, pickle.LIST)},
    **{code[0]: 100 for code in (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE)},
    **{code[0]: 224 for code in (pickle.MARK, pickle.EMPTY_SET, pickle.FROZENSET)},
    **{code[0]: 400 for code in (pickle.REDUCE, pickle.NEWOBJ, pickle.NEWOBJ_EX)},
    **{code[0]: 400 for code in (pickle.INST, pickle.OBJ, pickle.GLOBAL, pickle.STACK_GLOBAL)},
}


def _paid(load: Callable, cost: int) -> Callable:
    def paid(unpickler: 'Unpickler') -> None:
        unpickler.budget.spend(cost)
        load(unpickler)

    return paid


class Unpickler(pickle._Unpickler):
    """Reads one pickle of a stream; see this module.

    It is Python's own that is written in Python, because that of C calls whatever it is given.

    Args:
        stream: Where to read; it is left behind the pickle.
        storage: Gives the storage of a persistent id, which is a tuple.
        nested: Reads a file within the pickle.
    """

    def __init__(
        self,
        stream: BinaryIO,
        budget: Budget,
        storage: Callable[[tuple], Any] | None = None,
        nested: Callable[[bytes], Any] | None = None,
    ) -> None:
        # Text of Python 2 may be of any bytes, and latin1 reads all of them.
        super().__init__(stream, encoding='latin1')
        self.budget = budget
        self.storage = storage
        self.nested = nested

    def find_class(self, module: str, name: str) -> Any:
        """Stand in for what a file wants to have imported."""
        full = f'{MODULES.get(module, module)}.{name}'
        return DTYPES.get(full) or Unread(full)

    def get_extension(self, code: int) -> None:
        """Stand in for a number of copyreg's registry, which other code of the process fills."""
        self.append(Unread(f'copyreg.extension_{code}'))

    def persistent_load(self, pid: Any) -> Any:
        """Find a storage."""
        if self.storage is None or type(pid) is not tuple or len(pid) < 2:
            raise pickle.UnpicklingError('a reference to nothing')
        return pid[1] if pid[0] == 'module' else self.storage(pid)

    def _call(self, name: Any, args: Any) -> Any:
        if type(args) is not tuple or not isinstance(name, Unread):
            raise pickle.UnpicklingError('a call of no function')
        self.budget.spend(sum(len(v) for v in args if isinstance(v, (str, bytes, bytearray))))
        self.budget.spend(sum(32 * len(v) for v in args if isinstance(v, (list, tuple, dict))))
        if name.name == WITH_ATTRIBUTES:
            return self._call(args[0], args[2])
        if name.name == NESTED and self.nested is not None:
            return self.nested(*args, self.budget)
        if name.name not in BUILDERS:
            return Unread(name.name, args)
        made = BUILDERS[name.name](*args)
        # One that repeats its storage grows when it is copied.
        self.budget.spend(made.nbytes if isinstance(made, Tensor) else 0)
        return made

    def _instantiate(self, name: Any, args: list) -> None:
        self.append(self._call(name, tuple(args)))

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._reduce()

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Unread):
            target.state = state
        elif isinstance(target, ArrayType):
            target.order = state[1]
        elif isinstance(target, np.ndarray):
            self._fill(target, *state)
        elif type(target) is collections.OrderedDict and type(state) is dict:
            # The versions of a state dict's modules; no other attribute is anything's.
            if '_metadata' in state:
                target._metadata = state['_metadata']
        elif not isinstance(target, Tensor):
            raise pickle.UnpicklingError('attributes of what has none')

    def _fill(self, array: np.ndarray, _: Any, shape: Any, kind: Any, fortran: Any, raw: Any):
        raw, dtype = _bytes(raw), kind.numpy()
        if array.size or not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError('an array of impossible shape')
        objects = dtype.kind == 'O'
        if type(raw) is not (list if objects else bytes):
            raise pickle.UnpicklingError('an array without its data')
        if len(raw) != math.prod(shape) * (1 if objects else dtype.itemsize):
            raise pickle.UnpicklingError('an array of another size than its data')
        self.budget.spend(math.prod(shape) * dtype.itemsize)
        # In its place, because others may refer to it already.
        array.__setstate__((1, tuple(shape), dtype, bool(fortran), raw))

    def _bytearray(self) -> None:
        (length,) = struct.unpack('<Q', self.read(8))
        self.budget.spend(length)
        self.append(bytearray(self.read(length)))

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._update(items)

    def _update(self, items: list) -> None:
        if not isinstance(self.stack[-1], dict):
            raise pickle.UnpicklingError('keys of what has none')
        self.stack[-1].update(zip(_keys(items[::2]), items[1::2], strict=True))

    def _long(self) -> None:
        # Python takes long to print them, or refuses to.
        raise pickle.UnpicklingError('an integer of more than 255 bytes')

    def _extend(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(_keys(items))
        elif not isinstance(target, Unread):
            raise pickle.UnpicklingError('items of what has none')

    loaders = {
        **pickle._Unpickler.dispatch,
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.NEWOBJ_EX[0]: _newobj_ex,
        pickle.BUILD[0]: _build,
        pickle.BYTEARRAY8[0]: _bytearray,
        pickle.LONG4[0]: _long,
        pickle.DICT[0]: _dict,
        pickle.FROZENSET[0]: lambda self: self.append(frozenset(_keys(self.pop_mark()))),
        pickle.SETITEM[0]: lambda self: self._update([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self._update(self.pop_mark()),
        pickle.APPEND[0]: lambda self: self._extend([self.stack.pop()]),
        pickle.APPENDS[0]: lambda self: self._extend(self.pop_mark()),
        pickle.ADDITEMS[0]: lambda self: self._extend(self.pop_mark()),
    }
    dispatch = {code: _paid(load, COSTS.get(code, 32)) for code, load in loaders.items()}
