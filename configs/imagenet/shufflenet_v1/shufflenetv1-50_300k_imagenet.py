_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV1', groups=3, arch='50', out_indices=(3,)),
    head=dict(in_channels=2880, bias=False),
)
