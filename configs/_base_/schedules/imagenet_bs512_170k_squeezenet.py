# SqueezeNet's training, as in the authors' release (solver.prototxt): 170k steps of 512 images,
# learning rate 0.04 falling linearly to 0 (also in the paper), weight decay 2e-4.
epochs = 68  # 170k x 512 / 1281167 images
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=4)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.04, momentum=0.9, weight_decay=2e-4),
)
param_scheduler = [
    dict(type='PolyLR', power=1.0, eta_min=0.0, begin=0, end=epochs, convert_to_iter_based=True)
]
auto_scale_lr = dict(enable=False, base_batch_size=512)
