"""The cache's memory and the rules by which policies keep frames and tokens."""

import pytest
import torch
import torch.nn.functional as F

from mmcity.models.streamvggt import build_policy
from mmcity.models.streamvggt.cache import KVStore
from tests.models.streamvggt.tiny import SIZES, random_frames, tiny_model

TOKENS = 3 + 2 * 3  # camera and two registers, 28 x 42 pixels
BOUNDED = [
    "window(3)",
    "knn(3)",
    "chunk(5, 2)",
    {"type": "DiversityPolicy", "budget": 120, "camera_window": 3},
    {"type": "QueryPolicy", "budget": 10, "pool": 2, "camera_window": 3},
    {"type": "AttentionPolicy", "budget": 10, "camera_window": 3},
]


def keys_values(tokens, batch=1, heads=2, dim=64, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(2, batch, heads, tokens, dim, generator=generator)


class TestKVStore:
    @pytest.mark.parametrize("dtype", [None, "bf16", "fp8", "int8"])
    def test_append_and_read(self, dtype):
        store = KVStore(dtype)
        parts = [keys_values(n, seed=n) for n in (70, 70, 3)]
        for k, v in parts:
            store.append(k, v)
        for actual, index in zip(store.read(torch.float32), (0, 1)):
            expected = torch.cat([part[index] for part in parts], dim=2)
            error = (actual - expected).abs().max()
            assert error <= {None: 0, "bf16": 0.02, "fp8": 0.2, "int8": 0.04}[dtype]

    def test_appending_does_not_move_the_old_tokens(self):
        store = KVStore(capacity=40)
        store.append(*keys_values(10))
        memory = store.read()[0].data_ptr()
        for _ in range(3):
            store.append(*keys_values(10))
        assert store.read()[0].data_ptr() == memory
        assert store.allocated_nbytes == store.nbytes

    def test_growth_is_geometric(self):
        store = KVStore()
        pointers = set()
        for _ in range(200):
            store.append(*keys_values(1))
            pointers.add(store.allocated_nbytes)
        assert len(pointers) < 15

    @pytest.mark.parametrize("dtype", [None, "int8"])
    def test_removed_page_is_replaced_by_the_last(self, dtype):
        store, pages = KVStore(dtype), [keys_values(70, batch=2, seed=s) for s in range(4)]
        for page in pages:
            store.append(*page)
        before = store.read(torch.float32)[0].unflatten(2, (4, 70))
        store.remove_page(torch.tensor([1, 3]), 70)
        after = store.read(torch.float32)[0].unflatten(2, (3, 70))
        assert torch.equal(after[0], before[0][:, [0, 3, 2]])
        assert torch.equal(after[1], before[1][:, [0, 1, 2]])

    @pytest.mark.parametrize("dtype", [None, "int8", "fp8"])
    def test_keep_picks_tokens_per_head(self, dtype):
        store = KVStore(dtype)
        store.append(*keys_values(100))
        k, v = (part.clone() for part in store.read(torch.float32))
        index = torch.stack([torch.arange(0, 100, 3), torch.arange(1, 101, 3) % 100])[None]
        store.keep(index)
        for head in range(2):
            for actual, old in zip(store.read(torch.float32), (k, v)):
                wanted = old[:, head, index[0, head]]
                torch.testing.assert_close(actual[:, head], wanted, atol=0.03, rtol=0.15)

    def test_regrouping_does_not_add_up_errors(self):
        """Sixty times new tokens of other magnitude come and go; old ones stay what they were."""
        store = KVStore("int8")
        k, v = keys_values(50)
        store.append(k, v)
        for round_ in range(60):
            store.append(*keys_values(30, seed=round_, scale=0.5 + round_ % 3))
            store.keep(torch.arange(50)[None, None])
        assert (store.read()[0] - k).abs().max() < 0.06  # largest step seen: 2.5 * 5 / 127
        assert (store.read()[1] - v).abs().max() < 0.04

    def test_int8_bytes(self):
        store = KVStore("int8")
        store.append(*keys_values(128))
        payload, key_scales, value_scales = 2 * 2 * 128 * 64, 2 * 2 * 64, 2 * 128 * 2
        assert store.nbytes == payload + key_scales + value_scales

    def test_other_batch_is_refused(self):
        store = KVStore()
        store.append(*keys_values(4))
        with pytest.raises(ValueError, match="start a new cache"):
            store.append(*keys_values(4, batch=2))


class TestMemory:
    def test_full_policy_grows_as_the_formula_says(self):
        model = tiny_model()
        sizes, head = SIZES["aggregator"], SIZES["camera_head"]
        per_frame = sizes["depth"] * 2 * TOKENS * sizes["embed_dim"] * 2  # bf16
        per_frame += head["trunk_depth"] * 4 * 2 * 2 * sizes["embed_dim"] * 4  # float32
        session = model.stream(cache_dtype="bf16")
        for count, image in enumerate(random_frames(6)[0], start=1):
            session.step(image)
            assert session.cache.nbytes == count * per_frame

    @pytest.mark.parametrize("policy", BOUNDED, ids=str)
    @pytest.mark.parametrize("dtype", [None, "int8"])
    def test_bounded_policies_stay_constant(self, policy, dtype):
        session = tiny_model().stream(policy=policy, cache_dtype=dtype)
        sizes, allocated = [], []
        for image in random_frames(24)[0]:
            session.step(image)
            sizes.append(session.cache.nbytes)
            allocated.append(session.cache.allocated_nbytes)
        assert len(set(allocated[11:])) == 1
        if policy == "chunk(5, 2)":  # a saw tooth
            assert max(sizes) == max(sizes[:5])
        else:
            assert len(set(sizes[12:])) <= (1 if dtype is None else 3)

    @pytest.mark.parametrize("policy", ["window(3)", "chunk(5, 2)"])
    def test_bounded_memory_is_allocated_once(self, policy):
        session = tiny_model().stream(policy=policy)
        allocated = set()
        for image in random_frames(12)[0]:
            session.step(image)
            allocated.add(session.cache.allocated_nbytes)
        assert len(allocated) == 1


class TestFramePolicies:
    def test_window(self):
        session = tiny_model().stream(policy="window(3)")
        for image in random_frames(10)[0]:
            session.step(image)
        assert sorted(session.cache.step_ids[0].tolist()) == [0, 7, 8, 9]

    def test_knn_keeps_what_looks_like_the_newest(self):
        session = tiny_model().stream(policy="knn(3)")
        base = random_frames(2)[0]
        noise = 0.02 * random_frames(8)[0]
        order = [0, 0, 1, 0, 1, 0, 1, 1]  # scene of each frame
        for scene, extra in zip(order, noise):
            session.step(0.9 * base[scene] + extra)
        # The last frames show scene 1: held are the first, the newest and two of scene 1.
        kept = sorted(session.cache.step_ids[0].tolist())
        assert kept[0] == 0 and kept[-1] == 7
        assert [order[step] for step in kept[1:]] == [1, 1, 1]

    def test_evict_by_hand(self):
        model = tiny_model()
        session = model.stream()
        images = random_frames(4)
        for step in range(3):
            session.step(images[:, step])
        session.cache.evict([1])
        assert sorted(session.cache.step_ids[0].tolist()) == [0, 2]
        other = model.stream(policy="window(2)")
        for step in range(3):
            other.step(images[:, step])
        # The window drops step 1 before step 3 comes, so both see steps 0 and 2 then.
        other.cache.evict([1])
        last, same = session.step(images[:, 3]), other.step(images[:, 3])
        torch.testing.assert_close(last["depth"], same["depth"], atol=1e-5, rtol=1e-4)
        with pytest.raises(ValueError, match="step: expected .*, got 1"):
            session.cache.evict([1])

    @pytest.mark.parametrize("text", ["windows(3)", "window(3, 4)", "window(x)"])
    def test_wrong_names_are_refused(self, text):
        with pytest.raises(ValueError, match="policy"):
            build_policy(text)


def filled(*parts):
    store = KVStore()
    for part in parts:
        store.append(*part)
    return store


def kept_rows(store, keys):
    """Which tokens of ``keys`` (heads, L, D) a store holds, per head."""
    held = store.read_keys()[0]
    return [
        [int((keys[head] == token).all(-1).nonzero()) for token in held[head]]
        for head in range(len(held))
    ]


class TestTokenPolicies:
    def test_diversity(self):
        first, rest = keys_values(4), keys_values(30, seed=1)
        rest[0, :, :, 10:] = rest[0, :, :, 10:11] + 0.01 * rest[0, :, :, 10:]  # a cluster
        store = filled(first, rest)
        policy = build_policy({"type": "DiversityPolicy", "budget": 14})
        policy.evict([store], 4, 4)
        unit = F.normalize(rest[0, 0], dim=-1)
        worth = -(unit * unit.mean(1, keepdim=True)).sum(-1)
        all_keys = torch.cat([first[0], rest[0]], dim=2)[0]
        for head, rows in enumerate(kept_rows(store, all_keys)):
            best = worth[head].argsort(descending=True)[:10].sort().values + 4
            assert rows == [0, 1, 2, 3, *best.tolist()]
            assert sum(row >= 14 for row in rows) <= 1  # hardly any of the cluster

    def test_diversity_shares_the_budget_among_layers(self):
        same = keys_values(40)
        same[0] = 1.0 + 0.01 * same[0]
        stores = [filled(same), filled(keys_values(40, seed=2))]
        policy = build_policy({"type": "DiversityPolicy", "budget": 40})
        policy.evict(stores, 4, 4)
        assert sum(policy.layer_budgets) == 40
        ratio = policy.layer_budgets[1] / policy.layer_budgets[0]
        # Mean similarity is about 1 in the first layer and 1 / 36 in the second.
        assert ratio == pytest.approx(torch.e ** ((1 - 1 / 36) / 0.5), rel=0.3)
        assert [store.length for store in stores] == policy.layer_budgets

    def test_query(self):
        k, v = keys_values(20)
        policy = build_policy({"type": "QueryPolicy", "budget": 6, "pool": 2})
        q = keys_values(7, seed=3)[0]  # two special tokens, five patches
        policy.observe(0, q, k, num_special=2, frames=1)
        store = filled((k, v))
        policy.evict([store], 4, 7)
        mean_q = q[0].mean(0)
        queries = [mean_q[0], mean_q[1], mean_q[2:4].mean(0), mean_q[4:6].mean(0), mean_q[6]]
        worth = torch.stack([k[0].mean(0) @ query for query in queries]).mean(0)
        middle = worth[4:13].argsort(descending=True)[:6].sort().values + 4
        assert kept_rows(store, k[0])[0] == [*range(4), *middle.tolist(), *range(13, 20)]

    def test_attention(self):
        policy = build_policy({"type": "AttentionPolicy", "budget": 3, "query_chunk": 2})
        first, second = keys_values(6), keys_values(3, seed=1)
        q1, q2 = keys_values(6, seed=4)[0], keys_values(3, seed=5)[0]
        both = torch.cat([first[0], second[0]], dim=2)
        policy.observe(0, q1, first[0], num_special=1, frames=1)
        policy.observe(0, q2, both, num_special=1, frames=1)
        store = filled(first, second)
        policy.evict([store], 2, 3)
        w1 = (q1 @ first[0].transpose(-1, -2) / 8).softmax(-1).mean((0, 1, 2)) * 6
        w2 = (q2 @ both.transpose(-1, -2) / 8).softmax(-1).mean((0, 1, 2)) * 9
        worth = (w1 + w2[:6]) / 2  # seen in both steps
        middle = worth[2:].argsort(descending=True)[:3].sort().values + 2
        assert kept_rows(store, both[0])[0] == [0, 1, *middle.tolist(), 6, 7, 8]
        assert policy.state_dict()["exposure"][0].tolist() == [[2, 2, 2, 2, 2, 1, 1, 1]]
