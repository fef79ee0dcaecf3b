"""Faults of ``mutate.py`` that cannot change a result, with the reason."""

#: File, kind, line and number among equal lines; an entry that is caught or gone is an error.
HARMLESS: dict[tuple[str, str, str, int], str] = {
    ("ssim", "wrong stride", "partials[at + kByMu1 * stride] = d.mu1;", 0): "kByMu1 is 0",
    ("semantic_splat", "missing barrier", "__syncthreads();", 2): "block_sum waits before the sums",
    ("voxelize_gaussians", "missing barrier", "__syncthreads();", 2): "as in semantic_splat",
}
