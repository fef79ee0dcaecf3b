"""Best density thresholds of a GaussTR model, from frames with ground truth."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("calibrate-thresholds", "scripts")
