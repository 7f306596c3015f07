_base_ = './faster-rcnn_shufflenetv1-x1.0-g3_fpn_1x_coco.py'

model = dict(
    backbone=dict(
        widen_factor=0.5,
        init_cfg=dict(
            checkpoint='checkpoints/shufflenetv1-x0.5-g3.pth',
        ),
    ),
    neck=dict(in_channels=[12, 120, 240, 480]),
)
