# The toy town, which the toolbox makes itself:
#   python tools/dataset_converters/create_toytown.py --out data/toytown --formats citygsx
#   python tools/train.py configs/gaussian_splatting/3dgs_toytown_cpu.py
_base_ = ["./3dgs_colmap_cpu.py"]

data_root = "data/toytown/citygsx"
max_iters = 2000

train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
