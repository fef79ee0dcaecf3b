"""Public functions of the operators."""
