# Any COLMAP scene on two CPU cores in about four minutes.
#   python tools/train.py configs/gaussian_splatting/3dgs_colmap_cpu.py --cfg-options data_root=DIR
#   python tools/test.py configs/gaussian_splatting/3dgs_colmap_cpu.py CHECKPOINT --cfg-options ...
_base_ = ["./3dgs_colmap.py"]

resize = dict(_delete_=True, long_side=480)
max_iters = 5000

model = dict(sh_degree=2, sh_degree_interval=500)
train_dataloader = dict(dataset=dict(resize=resize))
test_dataloader = dict(dataset=dict(resize=resize))
val_dataloader = test_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
