"""
The project's own renderer: textured worlds with exact depth, classes and poses, without a GPU.

``make_scene('street', seed=3)`` builds a world, ``render(scene, camera, pose)`` looks at it.
"""

from mt_perception.rendering.rasterizer import View, render, render_view
from mt_perception.rendering.worlds import SCENES, make_scene

__all__ = ['SCENES', 'View', 'make_scene', 'render', 'render_view']
