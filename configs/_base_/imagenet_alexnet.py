# AlexNet's training, as in Caffe's release (bvlc_alexnet/solver.prototxt): 450k steps of 256
# images, learning rate 0.01, a tenth after every 100k steps, weight decay 5e-4.
_base_ = './imagenet_caffe.py'

epochs = 90  # 450k x 256 / 1281167 images
train_cfg = dict(max_epochs=epochs, val_interval=5)
optim_wrapper = dict(
    optimizer=dict(lr=0.01, weight_decay=5e-4),
    paramwise_cfg=dict(bias_decay_mult=0.0, bias_lr_mult=2.0),
)
param_scheduler = [dict(type='StepLR', step_size=20, gamma=0.1)]
auto_scale_lr = dict(base_batch_size=256)
train_dataloader = dict(batch_size=32)
default_hooks = dict(checkpoint=dict(interval=5))
model = dict(head=dict(_delete_=True, type='HiddenLayersHead', in_channels=256, num_classes=1000))
