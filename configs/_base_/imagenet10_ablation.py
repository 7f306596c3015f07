# A short training from random weights, to compare networks on one CPU: ten classes at 112x112.
_base_ = ['./imagenet10.py', './imagenet_finetune.py']

epochs = 16
train_pipeline = _base_.train_pipeline
train_pipeline[0].size = 112
train_pipeline[0].scale = (0.35, 1.0)
test_pipeline = [
    dict(type='LoadImage'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='PackClassInputs'),
]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True),
]
default_hooks = dict(checkpoint=dict(interval=epochs, save_optimizer=False))
model = dict(head=dict(num_classes=10))
