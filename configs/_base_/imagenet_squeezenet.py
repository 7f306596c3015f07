# SqueezeNet's training, as in the authors' release (solver.prototxt): 170k steps of 512 images,
# learning rate 0.04 falling linearly to 0, weight decay 2e-4.
_base_ = './imagenet_caffe.py'

epochs = 68  # 170k x 512 / 1281167 images
train_cfg = dict(max_epochs=epochs, val_interval=4)
optim_wrapper = dict(
    optimizer=dict(lr=0.04, weight_decay=2e-4), paramwise_cfg=dict(bias_decay_mult=1.0)
)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=epochs, convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=512)
train_dataloader = dict(batch_size=64)
default_hooks = dict(checkpoint=dict(interval=4))
model = dict(head=dict(_delete_=True, type='ConvHead', in_channels=512, num_classes=1000))
