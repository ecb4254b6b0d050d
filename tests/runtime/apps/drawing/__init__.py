"""A service whose workers draw random numbers when they start."""
