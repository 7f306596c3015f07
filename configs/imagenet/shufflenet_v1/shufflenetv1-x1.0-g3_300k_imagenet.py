_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV1', groups=3, widen_factor=1.0, out_indices=(3,)),
    head=dict(in_channels=960, bias=False),
)
