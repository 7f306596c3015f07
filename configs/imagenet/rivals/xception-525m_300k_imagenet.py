_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='XceptionLike', widen_factor=2.0, out_indices=(3,)),
    head=dict(in_channels=1024),
)
