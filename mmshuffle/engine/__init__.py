"""Runner glue: hooks, checkpoint storage, memory layout; importing it registers them."""

from .checkpoint import AtomicBackend, find_resumable
from .hooks import MemoryFormatHook, PlainCheckpointHook, ReproducibleResumeHook
from .memory_format import set_memory_format

__all__ = [
    'AtomicBackend',
    'MemoryFormatHook',
    'PlainCheckpointHook',
    'ReproducibleResumeHook',
    'find_resumable',
    'set_memory_format',
]
