"""
Multi-task perception, visual odometry and place recognition for ROS 2.

Everything outside :mod:`mt_perception.nodes` is free of ROS and runs without it.
"""

import os

# The matrices here are small: a second BLAS thread costs more waiting than it saves work, above all on a busy
# machine. Read when numpy is first imported; set it yourself to choose otherwise.
os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')

__version__ = '0.1.0'
