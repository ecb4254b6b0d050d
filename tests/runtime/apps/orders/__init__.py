"""A service as an owner writes it, with settings of its own."""
