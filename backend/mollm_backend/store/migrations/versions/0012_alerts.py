"""Alerts: what was worth telling somebody who looks at no page, and to whom it has been told (see store/alerts.py)."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("since", sa.String(), nullable=False),
        sa.Column("over_at", sa.String(), nullable=False, server_default=""),
        sa.Column("told", sa.JSON(), nullable=False),
    )
