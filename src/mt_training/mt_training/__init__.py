"""Training, evaluation, distillation and export of the networks that mt_perception runs."""

__version__ = '0.1.0'
