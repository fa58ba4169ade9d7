"""Small versions of the generators that CellFlux and CellFluxRL were compared with: PhenDiff and IMPA."""
