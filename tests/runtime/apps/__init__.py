"""Small services that tests start as processes."""
