"""What a run needs of its data beyond MMDetection: robust loading, checks, a drawn set."""

from .loading import LoadImage

__all__ = ['LoadImage']
