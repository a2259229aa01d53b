"""Structured pruning: whole channels go, and with them everything that makes or reads only them."""
