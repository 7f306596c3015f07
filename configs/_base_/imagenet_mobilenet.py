# What the MobileNet paper (section 3.2) has other than ShuffleNet's: no label smoothing, milder
# crops, no weight decay on depthwise filters. Its asynchronous RMSprop and its schedule are not
# printed in full; ShuffleNet's schedule takes their place.
_base_ = ['./imagenet.py', './imagenet_300k.py']

train_pipeline = _base_.train_pipeline
train_pipeline[0].scale = (0.5, 1.0)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(head=dict(label_smoothing=0.0))
optim_wrapper = dict(paramwise_cfg=dict(dwconv_decay_mult=0.0))
