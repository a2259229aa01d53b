"""``python -m mt_perception.demo``."""

import sys

from mt_perception.demo.cli import main

sys.exit(main())
