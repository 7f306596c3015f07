_base_ = './shufflenetv1-x1.0-g3_8xb128-300k_imagenet.py'

model = dict(backbone=dict(arch='50'), head=dict(in_channels=2880))
