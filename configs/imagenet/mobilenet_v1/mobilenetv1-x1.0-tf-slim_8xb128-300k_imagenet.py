# TF-slim's network, to test its published weights: tools/test.py takes the .npz file itself.
_base_ = './mobilenetv1-x1.0_8xb128-300k_imagenet.py'

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(padding='same', norm_cfg=dict(type='BN', eps=1e-3), act_cfg=dict(type='ReLU6')),
)
