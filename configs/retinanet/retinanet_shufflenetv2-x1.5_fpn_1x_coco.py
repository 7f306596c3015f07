_base_ = './retinanet_shufflenetv2-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.5,
        init_cfg=dict(checkpoint='mmshuffle://torchvision/shufflenetv2-x1.5'),
    ),
    neck=dict(in_channels=[176, 352, 704]),
)
