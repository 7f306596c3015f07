_base_ = '../../_base_/imagenet_alexnet.py'

model = dict(backbone=dict(type='AlexNet', padding='published', out_indices=(3,)))
