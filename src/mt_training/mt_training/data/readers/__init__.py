"""Readers of public data sets: torch-free, one module per set, errors in one sentence."""
