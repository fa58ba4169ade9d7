"""What a folder of cells holds, and what is wrong with it, before anything is trained on it."""
