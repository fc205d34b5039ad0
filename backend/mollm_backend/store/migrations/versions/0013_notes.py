"""What jobs noted for the pages, in small pieces: a page must not read the facts of a version, which grow with the
labels."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("project_id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(), primary_key=True),
        sa.Column("at", sa.String(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
    )
