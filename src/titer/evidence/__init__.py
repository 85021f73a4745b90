"""What traces say before anybody judges: curves, panels and resamples. No torch."""
