"""Metrics as pure functions of numpy arrays, after the definitions of the field's own evaluators."""
