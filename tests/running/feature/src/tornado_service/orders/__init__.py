"""Orders: they can be placed and looked up."""
