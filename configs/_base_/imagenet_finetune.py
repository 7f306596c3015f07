# A short training on little data: 20 epochs of AdamW with a warm-up and a cosine.
_base_ = './imagenet_300k.py'

epochs = 20
train_cfg = dict(max_epochs=epochs, val_interval=2)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=5e-4, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.02, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(base_batch_size=32)
custom_hooks = [
    dict(type='PlainCheckpointHook'),
    dict(type='ReproducibleResumeHook'),
    dict(type='PreciseBNHook', num_batches=100),
    dict(type='ProgressHook', metrics={'top-1': 'accuracy/top1'}, scale=1),
    dict(type='HistoryHook'),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=5))
