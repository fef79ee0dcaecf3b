"""A loss that the toolbox does not know, and a config that uses it."""
