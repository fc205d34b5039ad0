"""Counters of what was written, so that an idle project is not counted again and again; and an index that nothing used.

The index on the tasks' text keys alone was written with each task, in random order, and read by no query.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revisions",
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.drop_index("ix_tasks_text_key", "tasks")
