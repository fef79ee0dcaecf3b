"""Export the latent planes of a VAE as training data of the diffusion stage: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("export_rollouts", "scripts")
