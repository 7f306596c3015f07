"""Runner glue: hooks, checkpoint storage, memory layout; importing it registers them."""

from .checkpoint import AtomicBackend, find_resumable
from .hooks import MemoryFormatHook, PlainCheckpointHook, ReproducibleResumeHook
from .memory_format import set_memory_format
from .norm_statistics import PreciseBNHook
from .progress import HistoryHook, ProgressHook

__all__ = [
    'AtomicBackend',
    'HistoryHook',
    'MemoryFormatHook',
    'PlainCheckpointHook',
    'PreciseBNHook',
    'ProgressHook',
    'ReproducibleResumeHook',
    'find_resumable',
    'set_memory_format',
]
