# Appearance-varying Gaussians on a CPU, for captures whose light or exposure changes: a narrow
# map generator, and a scene that starts from the colours of its points.
_base_ = ["./rap_map_appearance.py"]

data_root = "data/scene"
max_iters = 3000
resize = dict(_delete_=True, long_side=320)
model = dict(
    base_colors=True,
    appearance=dict(map_generator=dict(width=0.25, batch_norm_eval=True)),
    motion=None,
)
train_dataloader = dict(dataset=dict(data_root=data_root, resize=resize))
test_dataloader = dict(dataset=dict(data_root=data_root, resize=resize, indices=8))
val_dataloader = test_dataloader
optim_wrapper = _base_.optim_wrapper
for group in optim_wrapper.paramwise_cfg.groups:
    group.lr = {
        "splats.f_intr": 2.5e-3,  # they hold the base colours
        "appearance.map_generator.": 5e-4,
        "appearance.color_net.": 1e-3,
    }.get(group.name, group.lr)
del group
param_scheduler = [
    dict(type="ExponentialDecayLR", groups=["splats.means"], final_ratio=0.01, end=max_iters),
    dict(type="ExponentialDecayLR", groups=["splats.box_coords"], final_ratio=0.01, end=max_iters),
    dict(
        type="ExponentialDecayLR",
        groups=["appearance.map_generator."],
        final_ratio=0.1,
        end=max_iters,
    ),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    checkpoint=dict(interval=max_iters),
    growth=dict(
        strategy=dict(
            _delete_=True,
            type="MCMCStrategy",
            max_gaussians=60_000,
            refine_start=200,
            refine_stop=2500,
            refine_every=50,
            noise_lr=5e5,
        )
    ),
)
