"""From a microscope's fields of view to a folder of single cells that `ImagingCells` reads.

    delimited.py fields.py pattern.py treatments.py    tables: which file shows which stain of which treated well
    planes.py illumination.py                          pixels: reading, uneven light, a scale for each plate and channel
    nuclei.py filters.py crops.py                      cells: nuclei of whole fields, those cut out, and how
    splits.py output.py sheets.py                      results: splits, the tables of the folder, contact sheets
    plates.py                                          the work itself, well by well, over processes

Nuclei come from a function that the caller gives; nothing here knows a segmenter.
"""
