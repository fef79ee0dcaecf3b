"""Verbs of the command ``mmcity``."""
