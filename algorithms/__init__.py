"""How a generator is updated, and how well it then does. Knows no file format and no reward by name."""
