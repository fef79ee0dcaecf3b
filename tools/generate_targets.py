"""Make the maps of foundation models that GaussTR is trained with: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("generate_targets", "scripts")
