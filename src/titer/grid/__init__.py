"""From a study to traces on disk: what to run, running it, and keeping what it left."""
