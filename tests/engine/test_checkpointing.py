"""Checkpoints: what may be in them, how they are read, written and matched with a model."""

import collections
import errno
import io
import os
import pathlib
import random
import resource
import signal
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from mmcity.engine.checkpointing import (
    AtomicLocalBackend,
    CheckpointContentError,
    CheckpointError,
    DeferredRemoval,
    UnsafeCheckpointError,
    check_is_checkpoint,
    check_matches_model,
    decode_checkpoint,
    encode_checkpoint,
    get_random_state,
    load_from_local,
    preserved_random_state,
    set_random_state,
    write_shard,
)
from mmcity.engine.launch import train
from tests.cli.conftest import TOY_CONFIG


def round_trip(value):
    """Encode, write, read with weights_only=True, decode."""
    buffer = io.BytesIO()
    torch.save(encode_checkpoint(value), buffer)
    buffer.seek(0)
    return decode_checkpoint(torch.load(buffer, weights_only=True))


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary()
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=4), inner, max_size=3),
        st.builds(collections.deque, st.lists(inner, max_size=3)),
        st.builds(pathlib.Path, st.sampled_from(["a/b", "/c"])),
    ),
    max_leaves=8,
)


class TestCodec:
    @settings(max_examples=50, deadline=None)
    @given(trees)
    def test_plain_trees_come_back_equal(self, tree):
        assert round_trip({"tree": tree}) == {"tree": tree}

    def test_history_buffer_comes_back_with_its_statistics(self):
        buffer = HistoryBuffer([1.0, 3.0], [1, 3], max_length=5)
        again = round_trip({"loss": buffer})["loss"]
        assert isinstance(again, HistoryBuffer) and again.max_length == 5
        assert again.mean() == pytest.approx((1 + 3) / 4)  # mmengine divides the sum by counts
        assert again.current() == 3.0

    @pytest.mark.parametrize(
        "array", [np.arange(6, dtype=np.uint8).reshape(2, 3), np.array(["a", "bc"]), np.array(2.5)]
    )
    def test_arrays(self, array):
        np.testing.assert_array_equal(round_trip({"x": array})["x"], array)

    def test_scalars_and_config_dicts_become_plain(self):
        from mmengine.config import ConfigDict

        again = round_trip({"best": np.float64(0.5), "cfg": ConfigDict(a=ConfigDict(b=1))})
        assert again == {"best": 0.5, "cfg": {"a": {"b": 1}}}
        assert type(again["best"]) is float and type(again["cfg"]["a"]) is dict

    def test_state_dict_keeps_order_and_versions(self):
        state = nn.BatchNorm1d(2).state_dict()
        encoded = encode_checkpoint(state)
        assert list(encoded) == list(state) and encoded._metadata == state._metadata

    def test_other_objects_are_refused_with_their_place(self):
        with pytest.raises(
            CheckpointContentError, match=r"meta\.hooks\[1\]: expected .*, got a .*Thread"
        ):
            import threading

            encode_checkpoint({"hooks": [0, threading.Thread()]}, where="meta")


class Harmful:
    """Unpickling it would call os.getcwd."""

    def __reduce__(self):
        return os.getcwd, ()


class Damaged:
    """Unpickling it fails as a number that was cut off does."""

    def __reduce__(self):
        return struct.unpack, ("<I", b"")


class TestLoader:
    def test_damage_is_told_with_unsafe_loading_too(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MMCITY_UNSAFE_LOAD", "1")
        torch.save({"x": Damaged()}, tmp_path / "bad.pth")
        with (
            pytest.warns(UserWarning, match="may run code"),
            pytest.raises(CheckpointError, match=r"bad\.pth is not a checkpoint"),
        ):
            load_from_local(tmp_path / "bad.pth")

    def test_foreign_globals_are_refused_by_name(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MMCITY_UNSAFE_LOAD", raising=False)
        torch.save({"state_dict": {}, "x": Harmful()}, tmp_path / "bad.pth")
        with pytest.raises(UnsafeCheckpointError, match=r"posix\.getcwd.*--unsafe-load"):
            load_from_local(tmp_path / "bad.pth")

    def test_opt_in_reads_it_with_a_warning(self, tmp_path, monkeypatch):
        monkeypatch.setenv("MMCITY_UNSAFE_LOAD", "1")
        torch.save({"x": Harmful()}, tmp_path / "bad.pth")
        with pytest.warns(UserWarning, match="may run code"):
            assert load_from_local(tmp_path / "bad.pth") == {"x": os.getcwd()}

    def test_checkpoint_of_stock_mmengine_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.delenv("MMCITY_UNSAFE_LOAD", raising=False)
        torch.save({"message_hub": {"loss": HistoryBuffer([1.0], [1])}}, tmp_path / "stock.pth")
        with pytest.raises(UnsafeCheckpointError, match="HistoryBuffer"):
            load_from_local(tmp_path / "stock.pth")

    @pytest.mark.parametrize(
        ("content", "what"),
        [(b"", "it is empty"), (b"\x89PNG....", "first bytes"), (b"PK\x03\x04rest", "cut off")],
    )
    def test_other_files(self, tmp_path, content, what):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=f"file.pth is not a checkpoint.*{what}"):
            load_from_local(tmp_path / "file.pth")

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_damaged_files_raise_the_documented_error(self, data, tmp_path_factory):
        buffer = io.BytesIO()
        torch.save({"state_dict": {"w": torch.arange(8.0)}}, buffer)
        content = bytearray(buffer.getvalue())
        if data.draw(st.booleans(), "cut"):
            content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
        for _ in range(data.draw(st.integers(1, 4), "flips")):
            if content:
                at = data.draw(st.integers(0, len(content) - 1), "at")
                content[at] = data.draw(st.integers(0, 255), "byte")
        path = tmp_path_factory.mktemp("damaged") / "x.pth"
        path.write_bytes(content)
        try:
            load_from_local(path)  # a flip in the numbers themselves cannot be noticed
        except CheckpointError as error:
            assert str(path) in str(error)

    def test_mmengine_reads_through_it(self, tmp_path):
        torch.save(encode_checkpoint({"h": HistoryBuffer([1.0], [1])}), tmp_path / "x.pth")
        loaded = CheckpointLoader.load_checkpoint(str(tmp_path / "x.pth"), "cpu")
        assert isinstance(loaded["h"], HistoryBuffer)


class TestStorage:
    def test_full_disk_leaves_the_earlier_file(self, tmp_path):
        backend, target = AtomicLocalBackend(), tmp_path / "iter_1.pth"
        backend.put(b"good", target)
        old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old_limit[1]))
        try:
            with pytest.raises(OSError, match="cannot write 8192 bytes.*untouched") as caught:
                backend.put(b"x" * 8192, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
            signal.signal(signal.SIGXFSZ, old_handler)
        assert caught.value.errno == errno.EFBIG and caught.value.filename == str(target)
        assert target.read_bytes() == b"good"
        assert os.listdir(tmp_path) == ["iter_1.pth"]

    def test_removal_waits_and_spares_what_was_written_again(self, tmp_path):
        for name in ("old", "again"):
            (tmp_path / name).write_text(name)
        backend = DeferredRemoval(AtomicLocalBackend())
        backend.remove(tmp_path / "old")
        backend.remove(tmp_path / "again")
        assert len(os.listdir(tmp_path)) == 2
        backend.flush(keep={str(tmp_path / "again")})
        assert os.listdir(tmp_path) == ["again"]


class Scene(nn.Module):
    """A module whose own parameters take the size of the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.splats = nn.ParameterDict({"means": torch.zeros(2, 3)})
        self.decoder = nn.Linear(2, 2)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        means = state_dict[prefix + "splats.means"]
        self.splats["means"].data = self.splats["means"].data.new_empty(means.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


class TestMatch:
    def test_a_scene_may_have_another_size_but_its_decoder_may_not(self):
        state = Scene().state_dict()
        state["splats.means"] = torch.zeros(5, 3)
        check_matches_model(Scene(), state, "x.pth")
        state["decoder.weight"] = torch.zeros(3, 2)
        with pytest.raises(
            CheckpointError, match=r"x.pth: .* Scene, got 1 of another size: decoder"
        ):
            check_matches_model(Scene(), state, "x.pth")

    def test_prefix_of_a_wrapper_is_ignored(self):
        state = {f"module.{k}": v for k, v in Scene().state_dict().items()}
        check_matches_model(Scene(), state, "x.pth")

    @pytest.mark.parametrize("other", [[1, 2], {"a": 1}, {"state_dict": []}, None])
    def test_what_is_no_checkpoint(self, other):
        with pytest.raises(CheckpointError, match="x.pth is not a checkpoint of a model"):
            check_is_checkpoint(other, "x.pth")


class TestRandomState:
    def draw(self) -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    def test_survives_a_checkpoint(self):
        state = round_trip(get_random_state())
        drawn = self.draw()
        assert self.draw() != drawn
        set_random_state(state)
        assert self.draw() == drawn

    def test_a_block_may_draw_without_moving_the_generators(self):
        state = get_random_state()
        drawn = self.draw()
        set_random_state(state)
        with preserved_random_state():
            self.draw()
        assert self.draw() == drawn


def test_a_kill_before_the_rotation_leaves_no_checkpoint_behind_for_ever(tmp_path, monkeypatch):
    """Killed after a checkpoint is written, before the one that it replaces is removed."""
    monkeypatch.syspath_prepend(str(TOY_CONFIG.parent))
    flush = DeferredRemoval.flush

    def stop(self, keep):
        if "iter_4.pth" in {os.path.basename(path) for path in keep}:
            raise KeyboardInterrupt
        flush(self, keep)

    def run(iterations):
        checkpoint = {"max_keep_ckpts": 1, "interval": 2}
        options = {f"default_hooks.checkpoint.{key}": value for key, value in checkpoint.items()}
        options |= {"train_cfg.max_iters": iterations, "train_cfg.val_interval": iterations}
        train(TOY_CONFIG, work_dir=tmp_path, cfg_options=options, resume="auto")
        return sorted(path.name for path in tmp_path.glob("iter_*.pth"))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(DeferredRemoval, "flush", stop)
        run(4)
    assert sorted(p.name for p in tmp_path.glob("iter_*.pth")) == ["iter_2.pth", "iter_4.pth"]
    assert run(6) == ["iter_6.pth"]


def test_rows_of_a_process_are_on_the_disk_before_older_ones_go(tmp_path, monkeypatch):
    done = []

    def note(handle):
        done.append(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(os, "fsync", note)
    write_shard(tmp_path / "iter_1.pth", {"anchors.positions": torch.zeros(3, 3)}, 0, 2)
    assert "shard0of2" in done[0] and done[1] == str(tmp_path)
