# Light-Head R-CNN's release: 30 epochs of 80000 images, drops at 19 and 25, which are 20.5, 13.0
# and 17.1 epochs of the 117266 images of train2017 with objects; rate 0.00125 a GPU of 2 images.
epochs = 20
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=epochs)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', begin=0, end=epochs, by_epoch=True, milestones=[13, 17], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)
