"""``python -m titer.cli``."""

from titer.cli import main

main()
