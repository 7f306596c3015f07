# AlexNet's training, as in Caffe's release (bvlc_alexnet/solver.prototxt): 450k steps of 256
# images, learning rate 0.01, a tenth after every 100k steps, weight decay 5e-4; biases learn twice
# as fast without decay.
epochs = 90  # 450k x 256 / 1281167 images
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=epochs, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=5e-4),
    paramwise_cfg=dict(bias_decay_mult=0.0, bias_lr_mult=2.0),
)
param_scheduler = [dict(type='StepLR', step_size=20, gamma=0.1)]
auto_scale_lr = dict(enable=False, base_batch_size=256)
