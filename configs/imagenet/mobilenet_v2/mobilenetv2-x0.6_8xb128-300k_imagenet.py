_base_ = './mobilenetv2-x1.0_8xb128-300k_imagenet.py'

model = dict(backbone=dict(widen_factor=0.6))
