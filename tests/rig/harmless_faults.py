"""Faults of ``mutate.py`` that cannot change a result, with the reason."""

#: File, kind, line and number among equal lines; an entry that is caught or gone is an error.
HARMLESS: dict[tuple[str, str, str, int], str] = {
    ("ssim", "wrong stride", "partials[at + kByMu1 * stride] = d.mu1;", 0): "kByMu1 is 0",
}
