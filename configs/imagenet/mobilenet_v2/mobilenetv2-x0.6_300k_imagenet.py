_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='MobileNetV2', widen_factor=0.6, out_indices=(7,)),
    head=dict(in_channels=1280),
)
