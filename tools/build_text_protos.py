"""Embed the prompts of a vocabulary: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("build_text_protos", "scripts")
