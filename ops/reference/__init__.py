"""Pure-torch oracles of every operator: no compiler needed, differentiable any number of times."""
