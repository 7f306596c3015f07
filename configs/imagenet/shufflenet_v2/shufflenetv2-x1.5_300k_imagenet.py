_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=1.5, out_indices=(4,)),
    head=dict(in_channels=1024, bias=False),
)
