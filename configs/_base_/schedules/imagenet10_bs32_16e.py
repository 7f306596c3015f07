# From random weights, as short as a comparison of networks on one CPU allows.
_base_ = './imagenet10_bs32_20e.py'

epochs = 16
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True),
]
