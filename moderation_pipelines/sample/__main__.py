"""Write the sample: ``python -m moderation_pipelines.sample data/sample``."""

import sys
from pathlib import Path

from moderation_pipelines.sample.generate import write_sample

if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m moderation_pipelines.sample DIR")
    print(f"{len(write_sample(Path(sys.argv[1])))} files written to {sys.argv[1]}")
