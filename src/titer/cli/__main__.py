"""``python -m titer.cli``."""

from titer.cli.app import main

main()
