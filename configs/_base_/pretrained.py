# The last checkpoint of the ImageNet training of a network. Detectors whose backbone nobody
# publishes start from it; `python tools/train.py NETWORK` writes it.
imagenet_checkpoint = 'work_dirs/{}_8xb128-300k_imagenet/epoch_240.pth'
