# The toy town, which the toolbox makes itself: map, pose network, refinement on a CPU.
#   mmcity data toytown --out data/toytown --formats colmap_loc \
#       --mapping-images 150 --queries 40 --spacing 0.8 --image-size 400x300
#   python tools/train.py configs/rap/rap_map_toytown_cpu.py
#   python tools/train.py configs/rap/rap_toytown_cpu.py
#   mmcity localize data/toytown/colmap_loc \
#       --map work_dirs/rap_map_toytown_cpu/iter_5000.pth \
#       --map-config configs/rap/rap_map_toytown_cpu.py \
#       --config configs/rap/rap_toytown_cpu.py \
#       --checkpoint work_dirs/rap_toytown_cpu/epoch_150.pth \
#       --up 0 0 1 --out work_dirs/rap_toytown_cpu/queries
_base_ = ["./rap_colmap_cpu.py"]

data_root = "data/toytown/colmap_loc"
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
epochs = 150
model = dict(objective=dict(pose=dict(s_x=1.0, s_q=12.0)))  # metres, norm of matrices
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, end=50, by_epoch=False),
    # Slowly to half the rate, then quickly to almost nothing.
    dict(
        type="CosineAnnealingLR", T_max=100, end=50, eta_min_ratio=0.01, convert_to_iter_based=True
    ),
    dict(
        type="CosineAnnealingLR",
        T_max=epochs - 50,
        begin=50,
        end=epochs,
        eta_min_ratio=0.01,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(
    checkpoint=dict(interval=epochs),
    view_synthesis=dict(
        map="work_dirs/rap_map_toytown_cpu/iter_5000.pth",
        map_config="configs/rap/rap_map_toytown_cpu.py",
        # The town's z axis points up: people turn about it and walk on the ground.
        perturber=dict(translation=(1.5, 1.5, 0.1), rotation=(4.0, 4.0, 30.0), d_max=1.0),
    ),
)
