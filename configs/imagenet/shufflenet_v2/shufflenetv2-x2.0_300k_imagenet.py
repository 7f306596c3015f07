_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=2.0, out_indices=(4,)),
    head=dict(in_channels=2048, bias=False, dropout=0.2),
)
