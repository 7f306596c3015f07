# TF-slim's network, to test its published weights: tools/test.py takes the .npz file itself.
_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        type='MobileNetV1',
        widen_factor=1.0,
        padding='same',
        norm_cfg=dict(type='BN', eps=1e-3),
        act_cfg=dict(type='ReLU6'),
        out_indices=(3,),
    ),
    head=dict(in_channels=1024),
)
