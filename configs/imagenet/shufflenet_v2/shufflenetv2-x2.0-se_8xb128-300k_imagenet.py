_base_ = './shufflenetv2-x2.0_8xb128-300k_imagenet.py'

model = dict(backbone=dict(se_ratio=1.0))
