_base_ = './mobilenetv1-x1.0_8xb128-300k_imagenet.py'

model = dict(backbone=dict(shallow=True))
