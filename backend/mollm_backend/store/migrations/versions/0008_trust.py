"""What a job last found of audits, certificates and the plan: the page shows it and computes nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("projects", sa.Column("trust", sa.JSON(), nullable=False, server_default="{}"))
