"""Jobs, run folders, and what fills one with the other."""
