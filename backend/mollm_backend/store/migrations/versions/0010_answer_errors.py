"""Why an annotator could not answer a text: it is shown, counted by kind, and asked again once the cause is gone."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "answer_errors",
        sa.Column("fingerprint", sa.String(), primary_key=True),
        sa.Column("text_key", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("retry_at", sa.Float()),
        sa.Column("since", sa.String(), nullable=False),
    )
