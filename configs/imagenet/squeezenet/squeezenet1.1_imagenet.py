_base_ = '../../_base_/imagenet_squeezenet.py'

model = dict(backbone=dict(type='SqueezeNet', version='1.1', padding='published', out_indices=(2,)))
