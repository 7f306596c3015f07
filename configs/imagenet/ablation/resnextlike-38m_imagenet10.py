_base_ = '../../_base_/imagenet10_ablation.py'

model = dict(
    backbone=dict(type='ShuffleNetV1Baseline', unit='resnext', mflops=38, out_indices=(3,)),
    head=dict(in_channels=192),
)
