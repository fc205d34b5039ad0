"""A rollback pins: what is published stays until somebody unpins, or until the next version (see store/versions.py)."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("pinned_at", sa.String(), nullable=False, server_default=""))
    op.add_column("projects", sa.Column("pinned_until_next", sa.Boolean(), nullable=False, server_default=sa.false()))
