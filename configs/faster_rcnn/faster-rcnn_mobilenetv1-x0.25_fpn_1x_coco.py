_base_ = './faster-rcnn_mobilenetv1-x0.5_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.25,
        init_cfg=dict(checkpoint=_base_.imagenet_checkpoint.format('mobilenetv1-x0.25')),
    ),
    neck=dict(in_channels=[32, 64, 128, 256]),
)
