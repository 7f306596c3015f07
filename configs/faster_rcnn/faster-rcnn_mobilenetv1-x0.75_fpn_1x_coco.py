_base_ = './faster-rcnn_mobilenetv1-x1.0_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.75,
        init_cfg=dict(
            checkpoint='checkpoints/mobilenetv1-x0.75.pth',
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
