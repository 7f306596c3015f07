_base_ = './faster-rcnn_shufflenetv2-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(checkpoint='mmshuffle://torchvision/shufflenetv2-x2.0'),
    ),
    neck=dict(in_channels=[24, 244, 488, 976]),
)
