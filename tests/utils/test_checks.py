import pytest

from mmcity.utils import UserError
from mmcity.utils.checks import check_choice


def test_choice_that_is_known_passes():
    check_choice("mode", "loss", ("loss", "predict"))
    check_choice("mode", "ply", {"ply": 1})


def test_choice_that_is_unknown_names_argument_choices_and_value():
    with pytest.raises(ValueError, match=r"^mode: expected one of 'loss', None, 3, got 'x'$"):
        check_choice("mode", "x", ("loss", None, 3))
    with pytest.raises(UserError, match="^dtype: expected one of 'a', got 1$"):
        check_choice("dtype", 1, {"a": 0}, UserError)
