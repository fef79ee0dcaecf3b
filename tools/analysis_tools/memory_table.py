"""Write the table of the GPU memory that all configs need."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("memory-table", "scripts")
