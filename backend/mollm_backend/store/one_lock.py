"""SQLite: one chunk's answers, what they cost and what they change, under the one lock that a SQLite file has.

All workers wait for that lock, so the statements are ready before: only the database's own work is done under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from mollm_backend.store import changes, revisions

_ADD = sa.text("""
INSERT INTO signals (fingerprint, text_key, label_probs, votes, abstained, truncated)
VALUES (:fingerprint, :text_key, :label_probs, :votes, :abstained, :truncated)
ON CONFLICT (fingerprint, text_key) DO NOTHING
""")
# The projects that ask this annotator: an answer is a change of each task in them that has its text.
_HOLDING = sa.text("""
SELECT id FROM projects WHERE id = :project_id OR instr(CAST(panel AS text), :fingerprint) > 0 ORDER BY id
""")
_MOVE = sa.text("""
UPDATE tasks SET changed = :number
WHERE project_id = :project_id AND text_key = :text_key AND deleted_at IS NULL AND problem = ''
""")
_THERE = sa.text("DELETE FROM absences WHERE fingerprint = :fingerprint")
_CHARGE = sa.text("""
INSERT INTO ledger (
    fingerprint, project_id, day, annotator, calls, texts, prompt_tokens, completion_tokens, abstained, truncated,
    seconds
)
VALUES (
    :fingerprint, :project_id, :day, :annotator, :calls, :texts, :prompt_tokens, :completion_tokens, :abstained,
    :truncated, :seconds
)
ON CONFLICT (fingerprint, project_id, day) DO UPDATE SET
    calls = calls + excluded.calls, texts = texts + excluded.texts,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens,
    abstained = abstained + excluded.abstained, truncated = truncated + excluded.truncated,
    seconds = seconds + excluded.seconds
""")


def save(
    connection: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    charge: Mapping[str, Any],
    answers: str,
    *,
    first: bool,
) -> None:
    """The arguments are those of `one_trip.save`."""
    fresh = 0
    if rows:
        fresh = connection.execute(_ADD, rows, execution_options={"preserve_rowcount": True}).rowcount
    if not first and not fresh:
        return  # the attempt before was kept, and only the word of it was lost: it is charged already
    if fresh:
        for project_id in connection.execute(_HOLDING, charge).scalars().all():
            number = changes.next_number(connection, project_id)
            moved = [{"number": number, "project_id": project_id, "text_key": row["text_key"]} for row in rows]
            connection.execute(_MOVE, moved)
    connection.execute(_THERE, charge)
    connection.execute(_CHARGE, charge)
    revisions.note(connection, answers)
