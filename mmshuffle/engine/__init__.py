"""Runner glue: hooks, checkpoint storage, memory layout; importing it registers them."""

from .checkpoint import AtomicBackend
from .hooks import PlainCheckpointHook
from .memory_format import MemoryFormatHook, set_memory_format
from .norm_statistics import PreciseBNHook, SharedStatisticsHook
from .progress import HistoryHook, ProgressHook
from .reproducible import ReproducibleResumeHook
from .resume import find_resumable

__all__ = [
    'AtomicBackend',
    'HistoryHook',
    'MemoryFormatHook',
    'PlainCheckpointHook',
    'PreciseBNHook',
    'ProgressHook',
    'ReproducibleResumeHook',
    'SharedStatisticsHook',
    'find_resumable',
    'set_memory_format',
]
