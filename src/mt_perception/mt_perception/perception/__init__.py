"""From camera images to what the network says about them."""

from mt_perception.perception.pipeline import PerceptionPipeline

__all__ = ['PerceptionPipeline']
