_base_ = './shufflenetv2-x1.0_8xb128-300k_imagenet.py'

model = dict(backbone=dict(arch='50'), head=dict(in_channels=2048))
