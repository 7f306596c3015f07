# A short training on little data: 40 epochs of a cosine, all layers, few images a step.
_base_ = './imagenet_300k.py'

epochs = 40
train_cfg = dict(max_epochs=epochs, val_interval=5)
optim_wrapper = dict(optimizer=dict(lr=0.02, weight_decay=1e-4))
param_scheduler = [
    dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, convert_to_iter_based=True)
]
auto_scale_lr = dict(base_batch_size=32)
custom_hooks = [
    dict(type='PlainCheckpointHook'),
    dict(type='ReproducibleResumeHook'),
    dict(type='PreciseBNHook', num_batches=100),
    dict(type='ProgressHook', metrics={'top-1': 'accuracy/top1'}, scale=1),
    dict(type='HistoryHook'),
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=10))
