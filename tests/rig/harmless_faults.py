"""Faults of ``mutate.py`` that cannot change a result, with the reason."""

#: File, kind, line and number among equal lines; an entry that is caught or gone is an error.
HARMLESS: dict[tuple[str, str, str, int], str] = {}
