"""Labeling and evaluation pipeline for trust and safety.

The folder names tell the pipeline, in the order data flows: policies, ingest, consensus, agreement,
eval_sets, validation, prompting, scoring, metrics, reports. Only ``assets.py`` files, ``definitions.py``
and ``orchestration/`` know Dagster; everything else is plain Python and Polars.
"""

__version__ = "0.1.0"
