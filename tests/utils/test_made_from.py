import os

import pytest
import torch

from mmcity.utils.cli import UserError
from mmcity.utils.made_from import file_digest, keep_made_alike
from mmcity.utils.torch_files import tensors_digest


@pytest.fixture
def work(tmp_path):
    """Two pictures, and a function that makes what is missing of them."""
    for name in "ab":
        (tmp_path / name).write_text(name)
    out = tmp_path / "out"

    def make(names="ab", replace=False, **options):
        keep_made_alike(out, options, {f"{n}.txt": [tmp_path / n] for n in names}, replace)
        made = [n for n in names if not (out / f"{n}.txt").is_file()]
        for n in made:
            (out / f"{n}.txt").write_text((tmp_path / n).read_text() * 2)
        return made

    return tmp_path, make


def test_what_is_up_to_date_stays(work):
    root, make = work
    assert make("a", width=3, sizes=(1, 2)) == ["a"]
    assert make("ab", width=3, sizes=[1, 2]) == ["b"]  # a picture more
    assert make("a", width=3, sizes=[1, 2]) == []  # part of the work
    assert make("ab", width=3, sizes=[1, 2]) == []


def test_outputs_of_another_input_are_made_anew(work, caplog):
    root, make = work
    make()
    (root / "b").write_text("B")
    os.utime(root / "b", ns=(1, 1))

    assert make() == ["b"]
    assert (root / "out" / "b.txt").read_text() == "BB"


def test_outputs_of_other_options_are_refused(work):
    root, make = work
    make(width=3)
    with pytest.raises(UserError, match=r"out: expected outputs of width 4 \(not 3\), got others"):
        make(width=4)
    assert (root / "out" / "a.txt").read_text() == "aa"

    assert make(width=4, replace=True) == ["a", "b"]
    assert make(width=4) == []


def test_an_option_may_change_where_nothing_was_made(work):
    root, make = work
    make(width=3)
    for name in "ab":
        (root / "out" / f"{name}.txt").unlink()
    assert make(width=4) == ["a", "b"]


def test_files_of_unknown_making_are_refused(work):
    root, make = work
    (root / "out").mkdir()
    (root / "out" / "a.txt").write_text("of a user")
    with pytest.raises(UserError, match=r"a\.txt: expected no file, or one that \.made_from"):
        make()
    assert (root / "out" / "a.txt").read_text() == "of a user"


def test_digests_tell_contents_apart(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a").write_text("a")
    before = file_digest(tmp_path / "w")
    assert before == file_digest(tmp_path / "w") and file_digest(None) is None
    (tmp_path / "w" / "a").write_text("b")
    assert file_digest(tmp_path / "w") != before
    assert file_digest(tmp_path / "w" / "a") != before

    tensors = {"a": torch.zeros(2, 3), "n": torch.tensor(4)}
    assert tensors_digest(tensors) == tensors_digest({k: v.clone() for k, v in tensors.items()})
    assert tensors_digest(tensors) != tensors_digest({**tensors, "n": torch.tensor(5)})
