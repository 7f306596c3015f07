_base_ = './faster-rcnn_shufflenetv1-x1.0-g3_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=2.0,
        init_cfg=dict(
            checkpoint='checkpoints/shufflenetv1-x2.0-g3.pth',
        ),
    ),
    neck=dict(in_channels=[48, 480, 960, 1920]),
)
