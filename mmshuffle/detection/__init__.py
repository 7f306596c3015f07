"""What a detector needs beyond a backbone."""

from .stage_head import BackboneStageHead

__all__ = ['BackboneStageHead']
