"""The number of a project's last change stands in a counter: an answer's change needs no look at the tasks, and no lock
on the project's row (see store/changes.py)."""

from alembic import op

revision = "0018"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "INSERT INTO revisions (subject, number) "
        "SELECT 'changes ' || project_id, max(changed) FROM tasks GROUP BY project_id"
    )
