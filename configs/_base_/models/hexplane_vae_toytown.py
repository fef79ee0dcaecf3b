# Small HexPlane VAE of the toy towns; the diffusion config needs the same one to decode.
vae_model = dict(
    type="HexPlaneVAE",
    num_classes=12,
    spatial_size=(32, 32, 8),
    sequence_length=4,
    latent_channels=8,
    query_channels=32,
    down=(1, 1, 0),
    hex_down=(0, 0, 0, 0),
    separate_t_encoder=False,  # one voxel encoder serves all planes
    # Three choices that make a training of minutes learn: little noise at first, planes that
    # are added, and every collapsed cell in the readout.
    initial_logvar=-5.0,
    hadamard=False,
    readout="mean",
    transformer_depth=1,
    dropout=0.0,
    conv_hidden_low_res=32,
    conv_hidden_high_res=16,
    # voxels of the unified classes in the training towns, cropped
    class_frequencies=[573429, 22396, 2920, 1423, 858, 2032, 55161, 14565, 20253, 1639, 9836, 0],
)
