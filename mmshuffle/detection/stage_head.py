"""A backbone's last stage as the shared head of a C4 detector."""

from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor

from mmshuffle.backbones import BaseBackbone
from mmshuffle.backbones.layers import set_norm_eval


@MODELS.register_module()
class BackboneStageHead(BaseModule):
    """Stage ``stage`` of a backbone, applied to every RoI.

    In the C4 form of Faster R-CNN the RPN and the RoI pooling work on the stride-16 output, and the
    last stage is computed once a RoI, as MMDetection's ``ResLayer`` does for ResNet.

    Args:
        backbone: Config of one of this package's backbones; its ``frozen_stages`` and
            ``out_indices`` have no effect here.
        stage: Which of its stages to take; 3 is the one from stride 16 to 32.
        init_cfg: As of the backbone: a pretrained checkpoint is that of the whole backbone, of
            which the stage's part is loaded. Where None, the ``init_cfg`` of ``backbone``.

    Attributes:
        in_channels (int): Channels that the RoI pooling must deliver.
        out_channels (int): Channels for the box head.

    Raises:
        ValueError: ``backbone`` is of another package or has no such stage, or its ``init_cfg`` is
            another than the one given.
    """

    def __init__(
        self, backbone: dict, stage: int = 3, init_cfg: dict | list[dict] | None = None
    ) -> None:
        own = backbone.get('init_cfg')
        if init_cfg is not None and own is not None and init_cfg != own:
            raise ValueError(
                'BackboneStageHead has an init_cfg and its backbone another: give one of them'
            )
        super().__init__(init_cfg=own if init_cfg is None else init_cfg)
        if type(stage) is not int or stage < 1:
            raise ValueError(f'stage={stage!r} of BackboneStageHead: give an integer from 1')
        self._settings = {**backbone, 'out_indices': (stage - 1, stage), 'frozen_stages': -1}
        donor = MODELS.build(self._settings)
        if not isinstance(donor, BaseBackbone):
            raise ValueError(
                f'backbone={backbone["type"]} of BackboneStageHead: give a backbone of mmshuffle'
            )
        self.stage_index = stage
        self.in_channels, self.out_channels = donor.out_channels
        self.norm_eval = donor.norm_eval
        self.stage = donor.stages[stage]

    def forward(self, x: Tensor) -> Tensor:
        """Map RoI features (R, in_channels, H, W) to (R, out_channels, H / 2, W / 2)."""
        return self.stage(x)

    def init_weights(self) -> None:
        """Initialise a whole backbone, from the checkpoint if there is one, and take its stage."""
        donor = MODELS.build({**self._settings, 'init_cfg': self.init_cfg})
        donor.init_weights()
        self.stage.load_state_dict(donor.stages[self.stage_index].state_dict())
        self._is_init = True

    def train(self, mode: bool = True) -> 'BackboneStageHead':
        """Set the mode; with ``norm_eval`` of the backbone, BatchNorms stay in evaluation."""
        super().train(mode)
        if self.norm_eval:
            set_norm_eval(self)
        return self
