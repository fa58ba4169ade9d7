"""Convert a published CellFlux checkpoint: `cellfluxrl convert`.

python examples/convert_cellflux.py cellflux.pth runs/cellflux
"""

from algorithms.cli import run

if __name__ == "__main__":
    run("convert")
