_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV2', arch='50', out_indices=(4,)),
    head=dict(in_channels=2048, bias=False),
)
