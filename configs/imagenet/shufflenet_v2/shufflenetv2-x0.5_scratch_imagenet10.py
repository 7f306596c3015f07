# From random weights; the learning rate of a batch of 32 and more epochs.
_base_ = ['../../_base_/imagenet10.py', '../../_base_/imagenet_finetune.py']

model = dict(
    backbone=dict(type='ShuffleNetV2', widen_factor=0.5, out_indices=(3,)),
    head=dict(in_channels=192, num_classes=10),
)
