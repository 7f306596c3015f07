_base_ = './faster-rcnn_shufflenetv1-x0.5-g3_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=1.0,
        init_cfg=dict(checkpoint='mmshuffle://mmpretrain/shufflenetv1-x1.0-g3'),
    ),
    neck=dict(in_channels=[24, 240, 480, 960]),
)
