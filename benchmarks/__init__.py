"""How fast titer is, as figures and ratios that one command measures again. See README.md."""
