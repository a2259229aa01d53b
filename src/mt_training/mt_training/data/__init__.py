"""Data: what the networks learn from, as samples with the labels they have."""
