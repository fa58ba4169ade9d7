"""Scripts, tutorials, and what reproduces the documents."""
