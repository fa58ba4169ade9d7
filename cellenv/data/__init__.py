"""Data sets of cell images behind one interface: folders on disk, and synthetic cells."""
