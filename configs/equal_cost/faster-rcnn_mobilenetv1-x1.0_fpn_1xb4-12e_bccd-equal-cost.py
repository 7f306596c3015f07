# TF-slim's file: RGB from -1 to 1, ReLU6 and an eps of its own.
_base_ = './faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd-equal-cost.py'

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='MobileNetV1',
        norm_cfg=dict(type='BN', eps=1e-3),
        act_cfg=dict(type='ReLU6'),
        init_cfg=dict(type='Pretrained', checkpoint='checkpoints/mobilenet_v1_1.0_224_tf-slim.npz'),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)
