_base_ = ['../../_base_/imagenet.py', '../../_base_/imagenet_300k.py']

model = dict(
    backbone=dict(type='ShuffleNetV1Baseline', unit='resnet', mflops=13, out_indices=(3,)),
    head=dict(in_channels=96),
)
