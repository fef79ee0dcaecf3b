"""Where synthesised views are spent, and what keeps them from doing harm."""

import numpy as np
import pytest
import torch

from mmcity.engine.rap.view_synthesis import MapObservability, ValueBudget, ViewSynthesizer
from mmcity.structures import Cameras

NAN = float("nan")


def budget(photographs=4, views_per_image=4, seed=0, **options) -> ValueBudget:
    out = ValueBudget(**{"floor": 0.0, "memory": 0.0, **options})
    out.start(photographs, views_per_image, seed)
    return out


def counts(plan, photographs=4) -> list[int]:
    return np.bincount(plan.sources, minlength=photographs).tolist()


def taught(metres, degrees, **options) -> ValueBudget:
    """A budget that has heard one set's errors, four views of each photograph."""
    out = budget(**options)
    errors = torch.tensor([metres, degrees], dtype=torch.float32).T.repeat_interleave(4, 0)
    out.learn_errors(out.plan(0), errors)
    return out


def test_before_anything_is_known_all_photographs_are_alike():
    assert counts(budget().plan(0)) == [4, 4, 4, 4]


def test_views_go_where_errors_are():
    # Both errors in the ratio 1 : 1 : 2 : 4, sixteen views.
    learnt = taught([1, 1, 2, 4], [10, 10, 20, 40])
    assert counts(learnt.plan(1)) == [2, 2, 4, 8]
    # Position and rotation count alike, whatever their units: (1 + 3) : (3 + 1) : (2 + 2)^2.
    assert counts(taught([1, 3, 2, 2], [30, 10, 20, 20]).plan(1)) == [4, 4, 4, 4]
    assert counts(taught([1, 1, 2, 4], [10, 10, 20, 40], power=0.0).plan(1)) == [4, 4, 4, 4]
    # Half of the views are spread evenly: 2 each, and the other 8 as 1 : 1 : 2 : 4.
    assert counts(taught([1, 1, 2, 4], [1, 1, 2, 4], floor=0.5).plan(1)) == [3, 3, 4, 6]


def test_views_go_where_the_map_is_observable():
    learnt = taught([1, 1, 1, 1], [1, 1, 1, 1])
    learnt.learn_observability(learnt.plan(1), np.repeat([1.0, 0.0, 1.0, NAN], 4))
    # Nothing is known about the last one, which keeps its value.
    np.testing.assert_allclose(learnt.observability, [1, 0, 1, 1])
    spread = counts(learnt.plan(2))
    assert spread[1] == 0 and sorted(spread) == [0, 5, 5, 6]


def test_a_hopeless_place_does_not_take_everything():
    learnt = budget(photographs=100, views_per_image=2, max_ratio=4.0)
    errors = np.ones((100, 2))
    errors[7] = 1e6
    learnt.learn_errors(learnt.plan(0), torch.from_numpy(errors.repeat(2, 0)))
    assert learnt.weakness().max() == 4.0


def test_only_what_was_seen_counts_and_old_errors_fade():
    learnt = taught([2, 2, 2, 2], [2, 2, 2, 2], memory=0.5)
    second = torch.full((16, 2), NAN)
    second[0] = 4.0  # one view near the first photograph
    learnt.learn_errors(learnt.plan(1), second)
    np.testing.assert_allclose(learnt.errors[:, 0], [3, 2, 2, 2])


def test_plans_repeat_and_survive_a_restart():
    learnt = taught([1, 2, 3, 4], [4, 2, 1, 9], floor=0.1)
    learnt.judge(1.0)
    learnt.judge(2.0)
    assert learnt.plan(5) == learnt.plan(5) != learnt.plan(6)
    again = budget(floor=0.1)
    again.load_state_dict(learnt.state_dict())
    assert again.plan(5) == learnt.plan(5)
    assert again.judge(2.0) == learnt.judge(2.0) and again.share == 0.5
    other = budget(photographs=5)
    with pytest.raises(ValueError, match="expected 5 photographs .* got 4"):
        other.load_state_dict(learnt.state_dict())


def test_a_worse_selection_split_takes_perturbed_views_away():
    guarded = budget(patience=2, tolerance=0.1, back_off=0.5, min_share=0.25)
    shares = []
    for value in (1.0, 1.05, 1.2, 1.2, 1.3, 1.3, NAN, NAN, 0.9, 0.8):
        guarded.judge(value)
        shares.append(guarded.share)
    #      best, within tolerance, worse, worse again, ..., least share, better, better still
    assert shares == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25, 0.5, 1]
    guarded.share = 0.25
    assert sum(guarded.plan(3).moved) == 4 and len(guarded.plan(3).moved) == 16


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="floor"):
        ValueBudget(floor=1.5)
    with pytest.raises(ValueError, match="back_off"):
        ValueBudget(back_off=0.0)


# ---- observability


def looking_at_wall(x: float, z: float = 0.0) -> Cameras:
    """A camera with a field of view of 90 degrees that looks along z, 32 px wide."""
    viewmat = torch.eye(4)
    viewmat[:3, 3] = -torch.tensor([x, 0.0, z])
    return Cameras(torch.tensor([[16.0, 0, 16], [0, 16, 12], [0, 0, 1]]), viewmat[None], 32, 24)


def stacked(cameras) -> Cameras:
    first = cameras[0]
    return Cameras(first.Ks[0], torch.cat([c.viewmats for c in cameras]), 32, 24)


def wall(cameras, depth=4.0):
    """Depth and opacity of a wall at z = 4 before cameras at z = 0."""
    count = len(cameras)
    return torch.full((count, 24, 32), depth), torch.ones(count, 24, 32)


def test_share_of_a_view_that_two_photographs_see():
    photographs = stacked([looking_at_wall(0.0), looking_at_wall(0.0)])
    look = MapObservability(photographs, *wall(photographs), stride=1)
    # A wall 4 away is seen 8 wide: a view 4 to the side shows half of it, 9 to the side nothing.
    views = stacked([looking_at_wall(x) for x in (0.0, 4.0, 9.0)])
    assert look(views, *wall(views)).tolist() == [1.0, 0.5, 0.0]
    alone = MapObservability(photographs[:1], *wall([0]), stride=1)
    assert alone(views, *wall(views)).tolist() == [0.0, 0.0, 0.0]
    trusting = MapObservability(photographs[:1], *wall([0]), stride=1, min_views=1)
    assert trusting(views, *wall(views)).tolist() == [1.0, 0.5, 0.0]


def test_hidden_and_floating_content_is_unseen():
    photographs = stacked([looking_at_wall(0.0), looking_at_wall(0.0)])
    look = MapObservability(photographs, *wall(photographs), stride=2)
    view = looking_at_wall(0.0)
    assert look(view, *wall(view, depth=8.0)).tolist() == [0.0]  # behind the wall
    assert look(view, *wall(view, depth=2.0)).tolist() == [0.0]  # floats before it
    depth, alpha = wall(view)
    alpha[..., :16] = 0.2  # what is transparent does not count
    depth[..., :16] = 8.0
    assert look(view, depth, alpha).tolist() == [1.0]
    assert look(view, depth, torch.zeros_like(alpha)).tolist() == [0.0]


class WallScene(torch.nn.Module):
    """The wall, rendered exactly."""

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def render(self, cameras, with_geometry):
        count = len(cameras)
        distance = 4.0 - cameras.centers[:, 2].view(-1, 1, 1, 1)
        out = dict(rgb=torch.rand(count, 24, 32, 3), alpha=torch.ones(count, 24, 32, 1))
        return {**out, "depth": distance.float().expand(count, 24, 32, 1)}


def test_candidates_that_the_map_does_not_know_are_refused():
    photographs = stacked([looking_at_wall(0.0), looking_at_wall(0.5)])
    steps = iter([9.0, 8.0, 1.0] + [9.0] * 20)

    def sideways(pose, rng):
        out = pose.copy()
        out[0, 3] = next(steps)
        return out

    def synthesizer(**options):
        return ViewSynthesizer(
            WallScene(), photographs, sideways, max_attempts=3, batch_views=1,
            observability=dict(stride=1), **options,
        )  # fmt: skip

    views = synthesizer(min_observability=0.6).synthesize(0)
    # The first photograph's third candidate is known well, the second has none.
    assert views.poses[:, 3].tolist() == [1.0, 0.5]
    assert views.fallbacks == 1 and views.tries == 3
    assert views.observability[0] > 0.2 and views.observability[1] == 0
    unguarded = synthesizer(min_observability=0.0).synthesize(0)
    assert unguarded.poses[:, 3].tolist() == [9.0, 9.0] and unguarded.fallbacks == 0


def test_views_that_are_not_to_move_stay_with_their_photograph():
    photographs = stacked([looking_at_wall(0.0), looking_at_wall(0.5)])
    synthesizer = ViewSynthesizer(
        WallScene(), photographs, lambda pose, rng: pose + 1.0, observability={}
    )
    plan = budget(2, 3).plan(0)._replace(sources=[0, 1, 1], moved=[True, False, True])
    views = synthesizer.synthesize(plan)
    assert views.poses[:, 3].tolist() == [1.0, 0.5, 1.5] and views.fallbacks == 0
    assert np.isnan(views.observability).tolist() == [False, True, False]
