"""Counting what networks cost, and comparing that and what was measured with the papers' tables."""

from .complexity import Cost, count_layers

__all__ = ['Cost', 'count_layers']
