"""Numbers of losses come from the device together."""

import torch

from mmcity.utils.scalars import read_scalars


def test_numbers_are_those_of_item_in_their_order_and_type():
    third = torch.tensor(1 / 3)
    values = {
        "a": third.clone().requires_grad_(),
        "b": 2.5,
        "c": torch.tensor(7),
        "d": third.bfloat16(),
        "e": third.double()[None],
    }
    numbers = read_scalars(values)
    assert list(numbers) == list(values) and read_scalars({}) == {}
    for name, value in values.items():
        number = value.item() if isinstance(value, torch.Tensor) else value
        assert numbers[name] == number and type(numbers[name]) is type(number)
