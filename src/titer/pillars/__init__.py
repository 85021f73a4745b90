"""The pillars of immunity: pure statistics over traces, every value an ``Estimate``. No torch."""
