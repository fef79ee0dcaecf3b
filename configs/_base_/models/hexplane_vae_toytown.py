# Small HexPlane VAE of the toy towns; the diffusion config needs the same one to decode.
vae_model = dict(
    type="HexPlaneVAE",
    num_classes=12,
    spatial_size=(32, 32, 8),
    sequence_length=4,
    latent_channels=8,
    query_channels=96,
    down=(1, 1, 1),
    hex_down=(1, 0, 0, 0),
    separate_t_encoder=False,  # one voxel encoder serves all planes
    separate_t_reducer=False,  # time and height collapse at once
    # Choices that make a training of minutes learn: little noise at first, planes that are
    # added, and columns that are coded each by itself, whatever else the clip shows.
    initial_logvar=-5.0,
    hadamard=False,
    readout="token",
    columns=128,  # hidden width of the fold of a column into its cell of the xy plane
    kernel=1,
    norm=False,
    transformer_depth=1,
    transformer_heads=1,
    dropout=0.0,
    conv_hidden_low_res=16,
    conv_hidden_high_res=16,
    # voxels of the unified classes in the training towns, thousands
    class_frequencies=[48164, 8704, 89, 70, 59, 74, 2430, 5111, 1076, 694, 638, 0],
)
