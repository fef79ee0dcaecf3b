"""The check of installed libraries."""

import subprocess
import sys

import pytest

from mmcity.utils import DependencyError, check_dependencies
from mmcity.utils.dependencies import runtime_requirements


def test_this_environment_is_fine():
    check_dependencies()
    assert any(line.startswith("torch") for line in runtime_requirements())


def test_problems_are_listed_together_with_the_command():
    with pytest.raises(DependencyError) as caught:
        check_dependencies(["no-such-library>=1", "numpy>=99", "numpy<1.5", "torch>=1.0"])
    message = str(caught.value)
    assert "no-such-library is missing" in message
    assert message.count("does not fit") == 2 and "torch" not in message
    assert "pip install 'no-such-library>=1' 'numpy>=99' 'numpy<1.5'" in message


def test_tool_says_it_without_torch():
    """The check itself must run where torch cannot be imported."""
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['mmengine'] = None\n"
        "from mmcity.utils import check_dependencies, run_command\n"
        "run_command(lambda: check_dependencies(['absent-thing']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: DependencyError: absent-thing is missing")
