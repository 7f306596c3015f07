"""Strict loading for any module's ``init_cfg``, not only for this package's backbones."""

from collections.abc import Sequence

from mmengine.model.weight_init import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import nn

from .loader import load_pretrained


@WEIGHT_INITIALIZERS.register_module()
class PretrainedStrict:
    """Fill a module from a checkpoint of a known family, or fail with a report.

    ``init_cfg=dict(type='Pretrained', ...)`` of MMDetection's own networks loads what happens to
    fit and leaves the rest random; with this type it is all or nothing. Give it as the last entry
    of an ``init_cfg`` that is a list.

    Args:
        checkpoint: Path, http(s) address or zoo name, see
            :func:`mmshuffle.weights.load_pretrained`.
        prefix: Only tensors below this name.
        allow_missing: Name prefixes that may be missing or of another shape.

    Example:
        >>> backbone = dict(
        ...     type='MobileNetV2',
        ...     out_indices=(1, 2, 4, 6),
        ...     init_cfg=dict(
        ...         type='PretrainedStrict', checkpoint='checkpoints/mobilenet_v2-b0353104.pth'
        ...     ),
        ... )
    """

    def __init__(
        self, checkpoint: str, prefix: str | None = None, allow_missing: Sequence[str] = ()
    ) -> None:
        self.checkpoint = checkpoint
        self.prefix = prefix
        self.allow_missing = allow_missing

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        # mmengine would initialise the children after this call, and ConvModule draws new weights
        # then: they come first, and are marked as done.
        for child in module.children():
            if hasattr(child, 'init_weights'):
                if not getattr(child, 'is_init', False):
                    child.init_weights()
                child.is_init = True
        load_pretrained(module, self.checkpoint, self.prefix, self.allow_missing)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'PretrainedStrict: load from {self.checkpoint}')
