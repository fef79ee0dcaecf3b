"""Count the voxels of each class of a data set of occupancy: a shell."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("class_frequencies", "scripts")
