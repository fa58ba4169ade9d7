"""Sample a baseline on the held-out contexts of `cellfluxrl evaluate`, into a folder that `evaluate --images` reads.

python -m examples.baselines.generate --generator runs/phendiff/model --output-dir runs/phendiff/images
cellfluxrl evaluate --images phendiff=runs/phendiff/images
"""

from algorithms.evaluation.generate import PRESETS, main
from examples.studies.command_line import parse_script

if __name__ == "__main__":
    CONFIG = parse_script(PRESETS, __doc__)

    from examples.baselines.loading import load_generator  # heavy

    main(CONFIG, load=load_generator)
