"""The command ``mmcity VERB``, and the scripts of ``tools/``, which are shells of it.

Every command is a module of its own: ``verbs/`` holds the verbs, ``verbs/data/`` those of
``mmcity data``, ``scripts/`` what only a script of ``tools/`` starts. A module has

- a docstring, whose first line is the help,
- ``EXAMPLE``, one command line that works,
- ``add_arguments(parser)``, which imports nothing heavy: mim asks for the help first,
- ``run(args)``, which calls a function of the package and shows what it returns.

What an option is called, takes and means stands once: in the signature and the docstring of the
function, from which :mod:`mmcity.cli.options` reads it. :mod:`mmcity.cli.flags` has what several
commands share.
"""

from .main import main, shell

__all__ = ["main", "shell"]
