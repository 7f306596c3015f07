# MMDetection's training of SSDLite, a fifth as long.
epochs = 120
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=10)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.015, momentum=0.9, weight_decay=4e-5),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='CosineAnnealingLR', begin=0, end=epochs, T_max=epochs, convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=False, base_batch_size=192)
