"""What an LLM said of the beginning of a text alone is taken back: a text that is longer than a window is now read in
parts. All other answers stand."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM signals WHERE truncated")
