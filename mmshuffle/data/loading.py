"""Loading images that may not decode."""

import logging
import zlib

import cv2
import torch
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine.logging import print_log

from mmshuffle.errors import UserError

SLOTS = 1 << 16


@TRANSFORMS.register_module()
class LoadImage(LoadImageFromFile):
    """``LoadImageFromFile`` that names and counts the images that it cannot read.

    A dataset puts another image in the place of one that does not load. With MMDetection's own
    loader this either kills the run at the first damaged file or, with ``ignore_empty``, passes
    unseen.

    Args:
        max_unreadable: Distinct unreadable images that a process of the run, with its data loading
            workers and over all epochs, skips before it stops; 0, for evaluation, stops at the
            first.
        **kwargs: See ``mmcv.transforms.LoadImageFromFile``.

    Raises:
        UserError: More images than ``max_unreadable`` could not be read.
    """

    def __init__(self, max_unreadable: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.max_unreadable = max_unreadable
        # One slot a path by its checksum, in memory that the dataloader's workers share.
        self._unreadable = torch.zeros(SLOTS, dtype=torch.bool).share_memory_()

    def transform(self, results: dict) -> dict | None:
        """Load ``results['img_path']``; None, so that the dataset draws again, if unreadable."""
        path = results['img_path']
        try:
            loaded = self.load(results)
        except (OSError, AssertionError, ValueError, cv2.error) as error:
            loaded, reason = None, (str(error).splitlines() or [type(error).__name__])[0]
        else:
            reason = 'it does not decode'
        if loaded is not None:
            return loaded
        slot = zlib.crc32(str(path).encode()) % SLOTS
        known = bool(self._unreadable[slot])
        self._unreadable[slot] = True
        count = int(self._unreadable.sum())
        if count > self.max_unreadable:
            raise UserError(
                f'image {path} cannot be read ({reason}); {count} unreadable, allowed are '
                f'{self.max_unreadable} (max_unreadable of {type(self).__name__}): repair or '
                'remove it'
            )
        if not known:
            print_log(
                f'image {path} cannot be read ({reason}) and is skipped: '
                f'{count} of at most {self.max_unreadable}',
                logger='current',
                level=logging.WARNING,
            )
        return None

    def load(self, results: dict) -> dict | None:
        """Load without counting; None or one of the errors of a decoder if unreadable."""
        return super().transform(results)
