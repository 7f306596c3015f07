_base_ = './xception-145m_8xb128-300k_imagenet.py'

model = dict(backbone=dict(widen_factor=2.0), head=dict(in_channels=1024))
