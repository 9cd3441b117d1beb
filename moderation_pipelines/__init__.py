"""Labeling and evaluation pipeline for trust and safety.

A folder is a floor and imports only those below it; ``docs/architecture.md`` draws them. ``orchestration/stages.py``
lists the stages in the order data flows. Only ``assets.py`` files, ``wiring/``, ``orchestration/`` and
``definitions.py`` know Dagster; everything else is plain Python and Polars.
"""

__version__ = "0.1.0"
