"""Commands that only a script of ``tools/`` starts."""
