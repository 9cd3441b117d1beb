"""The ledger: every call that was made, what it cost, and every answer, by the hash of what was asked.

``records`` are its rows, ``databases`` where they lie (SQLite, PostgreSQL), ``ledger`` the rules, ``writer`` the one
thread that commits in groups.
"""

from moderation_pipelines.scoring.ledger.ledger import Ledger, open_ledger
from moderation_pipelines.scoring.ledger.records import SETTLED, Answer, Attempt, Claim, Failure, Grant

__all__ = ["SETTLED", "Answer", "Attempt", "Claim", "Failure", "Grant", "Ledger", "open_ledger"]
