"""Counting what networks cost, and comparing that and what was measured with the papers' tables."""

from .complexity import Cost, count_layers, count_multiply_adds

__all__ = ['Cost', 'count_layers', 'count_multiply_adds']
