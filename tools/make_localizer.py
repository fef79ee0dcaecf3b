"""From a folder of pictures to a localiser: the shell of ``mmcity make-localizer``."""

from mmcity.cli import shell

if __name__ == "__main__":
    shell("make-localizer")
