# VGGT-1B: all frames at once, every frame sees every other one (arXiv 2503.11651).
_base_ = ["../_base_/default_runtime.py"]

# What depth, point and track head read: pairs of blocks, and channels of their four levels.
dense_layers = (4, 11, 17, 23)
dense_channels = (256, 512, 1024, 1024)
image_size = 518  # longest image side in pixels

model = dict(
    type="VGGT",
    aggregator=dict(
        img_size=image_size,
        patch_size=14,
        embed_dim=1024,
        depth=24,  # pairs of a frame block and a global block
        num_heads=16,
        mlp_ratio=4.0,
        num_register_tokens=4,
        patch_embed="dino",  # "conv" for small models
        dino_depth=24,
        dino_heads=16,
        layer_scale=0.01,
        rope_base=100.0,
        gradient_checkpointing=False,  # True: less memory in training, about a third slower
    ),
    camera_head=dict(
        trunk_depth=4, num_heads=16, mlp_ratio=4.0, layer_scale=0.01, num_iterations=4
    ),
    depth_head=dict(
        features=256,
        out_channels=dense_channels,
        layers=dense_layers,
        frames_per_chunk=8,  # frames through the head at once: memory against speed
    ),
    point_head=dict(
        features=256, out_channels=dense_channels, layers=dense_layers, frames_per_chunk=8
    ),
    track_head=dict(  # None where no tracks are wanted
        features=128,
        out_channels=dense_channels,
        layers=dense_layers,
        iters=4,
        corr_levels=7,
        corr_radius=4,
        hidden_size=384,
        depth=6,
        num_heads=8,
        num_virtual_tracks=64,
    ),
)
