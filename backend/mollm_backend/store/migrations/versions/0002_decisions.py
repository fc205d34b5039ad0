"""A project may ask for several decisions: labels and predictions are kept by decision.

What is there belongs to a project's only decision, whose key is empty. A primary key cannot be changed in place in
SQLite, so both tables are made anew beside the old ones and take over their names.
"""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEYS = {"annotations": ("project_id", "annotation_id"), "predictions": ("project_id", "version", "task_id")}


def upgrade() -> None:
    op.execute("ALTER TABLE projects RENAME COLUMN label_task TO decisions")
    _convert(op.get_bind())
    for table, key in KEYS.items():
        old = sa.Table(table, sa.MetaData(), autoload_with=op.get_bind())
        names = [column.name for column in old.columns]
        kept = [sa.Column(column.name, column.type, nullable=column.nullable) for column in old.columns]
        op.create_table(
            f"{table}_new", *kept, sa.Column("decision", sa.String(), nullable=False),
            sa.PrimaryKeyConstraint(*key, "decision"),
        )  # fmt: skip
        columns = ", ".join(names)
        op.execute(f"INSERT INTO {table}_new ({columns}, decision) SELECT {columns}, '' FROM {table}")  # noqa: S608
        op.drop_table(table)
        op.rename_table(f"{table}_new", table)
    op.create_index("ix_annotations_task", "annotations", ["project_id", "task_id"])


def _convert(connection: sa.Connection) -> None:
    """The one parsed decision of each project as a list of one."""
    rows = connection.execute(sa.text("SELECT id, decisions FROM projects")).all()
    for number, stored in rows:
        before = json.loads(stored) if isinstance(stored, str) else stored
        source = {"name": before["object"], "field": before["field"], "tag": before.get("kind", "Text")}
        source |= {key: before[key] for key in ("text_key", "name_key") if key in before}
        after = [{"control": before["control"], "sources": [source], "labels": before["labels"]}]
        update = sa.text("UPDATE projects SET decisions = :after WHERE id = :number")
        connection.execute(
            update.bindparams(sa.bindparam("after", type_=sa.JSON)), {"after": after, "number": number}
        )  # fmt: skip
