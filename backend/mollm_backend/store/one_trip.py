"""PostgreSQL: one chunk's answers, what they cost and what they change, in one statement and one round trip.

On a server beside others each round trip waits for its turn; a chunk of 16 texts had needed twelve. All of it happens
or nothing, as in a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

# In this order, since each part waits for all of the one that it counts: the answers, for which no two workers meet;
# `numbered`, the next number of a change in each project that asks this annotator (see `changes`), whose row stays
# locked until the end, so that numbers become visible in their order; the tasks; and last the counter of answers and
# the ledger. So all workers wait for each other during the second half alone. `first`: it is the first attempt; at a
# later one, answers that are all there were charged by the one before.
_SAVE = sa.text("""
WITH fresh AS (
    INSERT INTO signals (fingerprint, text_key, label_probs, votes, abstained, truncated)
    SELECT CAST(:fingerprint AS text), given.* FROM unnest(
        CAST(:text_key AS text[]), CAST(:label_probs AS bytea[]), CAST(:votes AS bytea[]),
        CAST(:abstained AS double precision[]), CAST(:truncated AS boolean[])
    ) AS given
    ON CONFLICT (fingerprint, text_key) DO NOTHING
    RETURNING text_key
), numbered AS (
    INSERT INTO revisions (subject, number)
    SELECT 'changes ' || id, 1 FROM projects
    WHERE (SELECT count(*) FROM fresh) > 0 AND (id = :project_id OR strpos(CAST(panel AS text), :fingerprint) > 0)
    ORDER BY id
    ON CONFLICT (subject) DO UPDATE SET number = revisions.number + 1
    RETURNING CAST(substr(subject, 9) AS integer) AS project_id, number
), moved AS (
    UPDATE tasks SET changed = numbered.number FROM numbered, fresh
    WHERE tasks.project_id = numbered.project_id AND tasks.text_key = fresh.text_key
    AND tasks.deleted_at IS NULL AND tasks.problem = ''
    RETURNING 1
), gone AS (
    DELETE FROM absences WHERE fingerprint = :fingerprint
), charged AS (
    INSERT INTO ledger AS before (
        fingerprint, project_id, day, annotator, calls, texts, prompt_tokens, completion_tokens, abstained, truncated,
        seconds
    )
    SELECT CAST(:fingerprint AS text), :project_id, :day, :annotator, :calls, :texts, :prompt_tokens,
        :completion_tokens, CAST(:abstained_sum AS double precision), :truncated_sum, CAST(:seconds AS double precision)
    WHERE :first OR EXISTS (SELECT 1 FROM fresh)
    ON CONFLICT (fingerprint, project_id, day) DO UPDATE SET
        calls = before.calls + excluded.calls, texts = before.texts + excluded.texts,
        prompt_tokens = before.prompt_tokens + excluded.prompt_tokens,
        completion_tokens = before.completion_tokens + excluded.completion_tokens,
        abstained = before.abstained + excluded.abstained, truncated = before.truncated + excluded.truncated,
        seconds = before.seconds + excluded.seconds
)
INSERT INTO revisions (subject, number) SELECT CAST(:answers AS text), 1 WHERE (SELECT count(*) FROM moved) >= 0
ON CONFLICT (subject) DO UPDATE SET number = revisions.number + 1
""")


def save(
    connection: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    charge: Mapping[str, Any],
    answers: str,
    *,
    first: bool,
) -> None:
    """`rows`: of the table of answers, sorted by `text_key`, so that no two writers wait for each other; `charge`: of
    the ledger; `answers`: the counter that is raised."""
    columns = {
        name: [row[name] for row in rows] for name in ("text_key", "label_probs", "votes", "abstained", "truncated")
    }
    sums = {"abstained_sum": charge["abstained"], "truncated_sum": charge["truncated"]}
    connection.execute(_SAVE, {**charge, **sums, **columns, "answers": answers, "first": first})
