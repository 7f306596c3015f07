_base_ = './squeezenet1.0_8xb64-170k_imagenet.py'

model = dict(backbone=dict(bypass='complex'))
