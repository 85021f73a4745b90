"""Where experiments take place: Fabula, the synthetic testbed, and worlds a user brings."""
