# DiT-DC/2 on the rollout of the CarlaSC VAE, 43,730,432 parameters without conditions.
model = dict(
    type="HexPlaneDiffusion",
    denoiser=dict(
        type="HexPlaneDiT",
        in_channels=16,  # latent channels of the VAE
        txyz=(8, 64, 64, 4),  # latent sizes of the VAE
        sequence_length=16,
        depth=16,
        hidden=384,
        heads=8,
        patch_size=2,
        mlp_ratio=4.0,
        conditions=(),  # some of "hexplane", "layout", "trajectory", "command"
        cross_attention=False,
        drop_tokens=True,  # leave out padded patches
        condition_dropout=0.1,
    ),
    diffusion=dict(num_steps=1000, beta_start=1e-4, beta_end=2e-2),
    # "AncestralSampler" with 1000 steps is the paper's; DPMSolverSampler needs 20 to 50
    sampler=dict(type="AncestralSampler", spacing=None),
    guidance_scale=4.0,
    normalize="none",  # "plane_channel" standardises the latents
)
