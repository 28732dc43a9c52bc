"""How a camera image becomes what a detector sees."""
