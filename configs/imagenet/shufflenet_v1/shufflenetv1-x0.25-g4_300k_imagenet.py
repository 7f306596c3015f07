_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV1', groups=4, widen_factor=0.25, out_indices=(3,)),
    head=dict(in_channels=272, bias=False),
)
