# The toy town, which the toolbox makes itself:
#   python tools/dataset_converters/create_toytown.py --out data/toytown --formats colmap_loc
#   python tools/train.py configs/gaussian_splatting/3dgs_colmap_cpu.py \
#       --work-dir work_dirs/toytown_loc_map --cfg-options data_root=data/toytown/colmap_loc \
#       train_dataloader.dataset.data_root=data/toytown/colmap_loc \
#       test_dataloader.dataset.data_root=data/toytown/colmap_loc
#   python tools/train.py configs/rap/rap_toytown_cpu.py
#   python tools/localize.py data/toytown/colmap_loc --map work_dirs/toytown_loc_map/scene.ply \
#       --out work_dirs/toytown_loc
_base_ = ["./rap_colmap_cpu.py"]

data_root = "data/toytown/colmap_loc"
train_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = test_dataloader
custom_hooks = [
    dict(
        type="ViewSynthesisHook",
        map="work_dirs/toytown_loc_map/scene.ply",
        refresh_every=20,
        perturber=dict(
            type="PosePerturber", translation=1.0, rotation=8.0, frame="camera", d_max=1.0
        ),
    )
]
