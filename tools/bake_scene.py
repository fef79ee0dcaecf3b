"""Bake a scene to plain Gaussians."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("bake_scene", "scripts")
