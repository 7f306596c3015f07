_base_ = '../../_base_/imagenet10_ablation.py'

model = dict(
    backbone=dict(type='ShuffleNetV1', groups=8, widen_factor=0.5, out_indices=(3,)),
    head=dict(in_channels=768),
)
