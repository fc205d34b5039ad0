"""New texts are predicted without a training: tasks are numbered in the order of their changes (see store/changes.py).

A task of which the published version says nothing yet counts as changed.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

WAITING = """
UPDATE tasks SET changed = 1 WHERE NOT EXISTS (
    SELECT 1 FROM projects JOIN predictions
    ON predictions.project_id = projects.id AND predictions.version = projects.published_version
    WHERE projects.id = tasks.project_id
    AND predictions.task_id = tasks.task_id AND predictions.text_key = tasks.text_key
)
"""


def upgrade() -> None:
    op.add_column("tasks", sa.Column("changed", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("versions", sa.Column("changes", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("versions", sa.Column("unreadable", sa.Text(), nullable=False, server_default=""))
    op.execute(WAITING)
    op.create_index("ix_tasks_changed", "tasks", ["project_id", "changed"])
