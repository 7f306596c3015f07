"""Counting and comparing what networks cost."""

from .complexity import count_multiply_adds

__all__ = ['count_multiply_adds']
