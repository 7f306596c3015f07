_base_ = './mask-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(checkpoint='mmshuffle://torchvision/shufflenetv2-x0.5'),
    ),
    neck=dict(in_channels=[24, 48, 96, 192]),
)
