_base_ = './image_classifier.py'

model = dict(
    backbone=dict(type='ShuffleNetV1Baseline', unit='resnet', mflops=140, out_indices=(3,)),
    head=dict(in_channels=376),
)
