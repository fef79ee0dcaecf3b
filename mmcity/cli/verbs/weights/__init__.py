"""Published weights: what there is, downloading."""
