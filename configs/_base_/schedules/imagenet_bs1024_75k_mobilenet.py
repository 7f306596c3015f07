# A quarter of MobileNet's training.
_base_ = './imagenet_bs1024_75k.py'

optim_wrapper = dict(paramwise_cfg=dict(dwconv_decay_mult=0.0))
