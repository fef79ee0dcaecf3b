"""Time a VAE step and a DiT forward pass beside the straightforward form of the same maths.

Straightforward: attention with its score matrix in memory, every cell and every token worked
out, losses class by class. Figures are process CPU time, the minimum over repetitions, and the
peak of resident memory above that before the pass. Beside the VAE's step stands the largest
relative difference of loss and gradient between the two forms.
"""

import contextlib
import gc
import multiprocessing
import resource
import time
from collections.abc import Iterator, Sequence
from unittest import mock

import torch
import torch.nn.functional as F

from mmcity.models.dynamiccity import HexPlaneDiT, HexPlaneVAE
from mmcity.models.dynamiccity import decoder as decoder_module
from mmcity.models.dynamiccity import encoder as encoder_module
from mmcity.models.losses import occupancy as losses_module

#: VAE: grid, frames and widths; DiT: latent sizes and widths.
SIZES = {
    "small": (
        dict(
            spatial_size=(64, 64, 8),
            sequence_length=8,
            latent_channels=8,
            query_channels=32,
            conv_hidden_low_res=32,
            conv_hidden_high_res=16,
            dropout=0.0,
        ),
        dict(in_channels=8, txyz=(4, 32, 32, 4), sequence_length=8, depth=6, hidden=192, heads=6),
    ),
    "paper": (dict(dropout=0.0), dict()),
}


def plain_attention(q, k, v, dropout_p: float = 0.0, **_):
    """softmax(q k^T / sqrt(d)) v with the scores in memory."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return scores.softmax(-1) @ v


def plain_lovasz(probabilities, target):
    """Lovasz-softmax with one full sort and one gradient buffer a class."""
    terms = []
    for c in torch.unique(target).tolist():
        hit = (target == c).to(probabilities.dtype)
        errors, order = torch.sort((hit - probabilities[:, c]).abs(), descending=True)
        hit = hit[order]
        jaccard = 1 - (hit.sum() - hit.cumsum(0)) / (hit.sum() + (1 - hit).cumsum(0))
        jaccard[1:] = jaccard[1:] - jaccard[:-1].clone()
        terms.append(torch.dot(errors, jaccard))
    return torch.stack(terms).mean()


def plain_projection(self, x, cells=slice(None)):
    """All cells of all layers, then the one that is read."""
    for attention, mlp in self.layers:
        x = x + attention(x)
        x = x + mlp(x)
    return x[:, cells]


def plain_voxels(self, volume, frames):
    """Positional encoding as a dense volume beside the features."""
    x = self.conv_in(volume)
    for layer in self.conv_layers:
        x = x + layer(x)
    x = self.transpose_conv(x)
    positions = decoder_module.encode_positions(frames, x.shape[2:], self.pe_freq, x.dtype)
    return self.final_conv(torch.cat([x, positions], dim=1))


@contextlib.contextmanager
def straightforward():
    """Swap the economical parts for the straightforward ones."""
    with contextlib.ExitStack() as stack:
        for owner, name, form in (
            (F, "scaled_dot_product_attention", plain_attention),
            (losses_module, "lovasz_softmax", plain_lovasz),
            (encoder_module.ProjectionTransformer, "forward", plain_projection),
            (decoder_module.VoxelDecoder, "forward", plain_voxels),
        ):
            stack.enter_context(mock.patch.object(owner, name, form))
        yield


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _vae_pass(size: str):
    torch.manual_seed(0)
    model = HexPlaneVAE(**SIZES[size][0])
    time_, space = model.sequence_length, SIZES[size][0].get("spatial_size", (128, 128, 8))
    labels = torch.randint(12, (1, time_, *space))
    labels = torch.where(torch.rand(labels.shape) < 0.2, labels, 0)

    def run() -> torch.Tensor:
        torch.manual_seed(1)
        model.zero_grad()
        loss = sum(model({"voxels": labels}, mode="loss").values())
        loss.backward()
        gradient = model.encoder.embedding.weight.grad
        return torch.cat([loss.detach()[None], gradient.flatten()])

    return run


def _dit_pass(size: str, batch: int, drop_tokens: bool):
    torch.manual_seed(0)
    options = SIZES[size][1]
    model = HexPlaneDiT(drop_tokens=drop_tokens, **options).eval()
    # Zero-initialised outputs would make any two forms agree.
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    x = torch.randn(batch, model.in_channels, model.size, model.size)
    t = torch.full((batch,), 500)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(x, t)

    return run


def _measure(job: tuple, results) -> None:
    part, size, batch, threads, repeat, is_plain = job
    torch.set_num_threads(threads)
    run = _vae_pass(size) if part == "vae" else _dit_pass(size, batch, not is_plain)
    context = straightforward() if is_plain else contextlib.nullcontext()
    gc.collect()
    before, seconds = _peak_mib(), []
    with context:
        for _ in range(repeat):
            start = time.process_time()
            answer = run()
            seconds.append(time.process_time() - start)
    results.put((min(seconds), _peak_mib() - before, answer.numpy()))


def measure_generation(
    size: str = "small",
    batch: int = 2,
    threads: int = 1,
    repeat: int = 3,
    parts: Sequence[str] = ("vae", "dit"),
) -> Iterator[dict]:
    """Measure each form in a process of its own, so that peaks do not mix.

    Args:
        size: ``small`` or ``paper``. Defaults to ``small``.
        batch: Samples of the DiT's pass. Defaults to 2.
        threads: CPU threads. Defaults to 1.
        repeat: Repetitions, of which the least counts. Defaults to 3.
        parts: Of ``vae`` (a training step) and ``dit`` (a forward pass). Defaults to both.

    Yields:
        ``part``, ``is_plain``, CPU ``seconds``, ``peak`` of memory in MiB, and of the plain VAE
        the largest relative ``difference`` from the economical one (else None).
    """
    context = multiprocessing.get_context("spawn")
    for part in parts:
        ours = None
        for is_plain in (False, True):
            job = (part, size, batch, threads, repeat, is_plain)
            results = context.Queue()
            process = context.Process(target=_measure, args=(job, results))
            process.start()
            seconds, peak, answer = results.get()
            process.join()
            difference = None
            # Of the DiT, attention to padding changes what the tokens see.
            if is_plain and part == "vae":
                difference = float((abs(ours - answer) / abs(answer).clip(min=1e-3)).max())
            ours = answer
            yield {
                "part": part,
                "is_plain": is_plain,
                "seconds": seconds,
                "peak": peak,
                "difference": difference,
            }
