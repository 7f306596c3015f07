# As the MobileNet paper (section 3.2), no weight decay on depthwise filters ("little or no"). Its
# asynchronous RMSprop and its schedule are not printed in full; ShuffleNet's take their place.
_base_ = './imagenet_bs1024_300k.py'

optim_wrapper = dict(paramwise_cfg=dict(dwconv_decay_mult=0.0))
