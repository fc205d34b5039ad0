"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INT, STR, TEXT, BOOL, REAL, BLOB, JSON = (
    sa.Integer(), sa.String(), sa.Text(), sa.Boolean(), sa.Float(), sa.LargeBinary(), sa.JSON()
)  # fmt: skip


def upgrade() -> None:
    _make(
        "annotations", "project_id annotation_id",
        project_id=INT, annotation_id=INT, task_id=INT, user_id=INT, label=(STR,), was_cancelled=BOOL,
        parent_prediction=(INT,), shown_version=(STR,), shown_label=(STR,), provenance=STR, created_at=STR,
        updated_at=STR, problem=TEXT, deleted_at=(STR,),
    )  # fmt: skip
    with op.batch_alter_table("annotations", schema=None) as batch_op:
        batch_op.create_index("ix_annotations_task", ["project_id", "task_id"], unique=False)
    _make(
        "batch_entries", "project_id batch_version task_id",
        project_id=INT, batch_version=STR, task_id=INT, rank=INT, version=STR, label=STR, confidence=REAL, reason=TEXT,
        gain=REAL, published_at=(STR,),
    )  # fmt: skip
    number = sa.Column("id", INT, autoincrement=True, nullable=False)
    _make("events", "id", number, at=STR, project_id=(INT,), kind=STR, line=TEXT)
    _make(
        "ledger", "fingerprint project_id day",
        fingerprint=STR, project_id=INT, day=STR, annotator=STR, calls=INT, texts=INT, prompt_tokens=INT,
        completion_tokens=INT, abstained=REAL, truncated=INT, seconds=REAL,
    )  # fmt: skip
    _make(
        "predictions", "project_id version task_id",
        project_id=INT, version=STR, task_id=INT, text_key=STR, label=STR, confidence=REAL, probs=BLOB,
        classifier_probs=(BLOB,), negatives=JSON,
    )  # fmt: skip
    _make(
        "projects", "id", sa.Column("id", INT, autoincrement=False, nullable=False),
        url=STR, title=STR, ls_created_at=STR, label_config=TEXT, label_task=JSON, panel=JSON, options=JSON,
        connection=JSON, connected=BOOL, published_version=(STR,), batch_version=(STR,), reconciled_at=STR,
        attention=TEXT,
    )  # fmt: skip
    _make("absences", "fingerprint", fingerprint=STR, reason=TEXT, since=STR, attempts=INT, retry_at=REAL)
    _make(
        "signals", "fingerprint text_key",
        fingerprint=STR, text_key=STR, label_probs=BLOB, votes=BLOB, abstained=REAL, truncated=BOOL, created_at=None,
    )  # fmt: skip
    _make(
        "tasks", "project_id task_id",
        project_id=INT, task_id=INT, data_hash=STR, text=(TEXT,), text_key=STR, problem=TEXT, updated_at=STR,
        deleted_at=(STR,),
    )  # fmt: skip
    with op.batch_alter_table("tasks", schema=None) as batch_op:
        batch_op.create_index("ix_tasks_text_key", ["text_key"], unique=False)
    _make(
        "versions", "project_id id",
        project_id=INT, id=STR, round=INT, created_at=None, status=STR, human_labels=INT, facts=JSON,
    )  # fmt: skip


def _make(name: str, key: str, *first: sa.Column[Any], **kinds: Any) -> None:
    """Make a table with these columns in this order; `key` names those of its primary key, with spaces between.

    A kind is NOT NULL, (kind,) may be NULL, None is a time that the database writes.
    """
    columns = list(first)
    for column, kind in kinds.items():
        optional, now = isinstance(kind, tuple), None if kind else sa.text("(CURRENT_TIMESTAMP)")
        columns.append(sa.Column(column, kind[0] if optional else kind or STR, nullable=optional, server_default=now))
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key.split()))
