"""The page of an evaluation, or of several runs: pictures, marks, curves, one self-contained HTML file."""
