"""Audits, certificates, and the tasks that a certificate accepts (see store/audits.py and store/certificates.py)."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.Column("purpose", sa.String(), nullable=False),
        sa.Column("target", sa.Float()),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("looks", sa.Integer(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("parts", sa.JSON(), nullable=False),
        sa.Column("frozen", sa.LargeBinary(), nullable=False),
        sa.Column("frozen_texts", sa.LargeBinary(), nullable=False),
        sa.Column("frozen_confidence", sa.LargeBinary(), nullable=False),
        sa.Column("frozen_labels", sa.LargeBinary(), nullable=False),
        sa.Column("label_config_digest", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id"),
    )
    op.create_table(
        "audit_tasks",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("audit_id", sa.String(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("turn", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("predicted", sa.JSON(), nullable=False),
        sa.Column("text_key", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "audit_id", "task_id"),
    )
    op.create_index("ix_audit_tasks_task", "audit_tasks", ["project_id", "task_id"])
    op.create_table(
        "certificates",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("audit_id", sa.String(), nullable=False),
        sa.Column("made_at", sa.String(), nullable=False),
        sa.Column("look", sa.Integer(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.Column("audits", sa.Integer(), nullable=False),
        sa.Column("errors", sa.Integer(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("target", sa.Float(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("by_class", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "id"),
    )
    op.create_table(
        "accepted",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("certificate_id", sa.String(), nullable=False),
        sa.Column("task_id", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("text_key", sa.String(), nullable=False),
        sa.Column("annotation_id", sa.Integer()),
        sa.Column("written_at", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("project_id", "certificate_id", "task_id"),
    )
    op.create_index("ix_accepted_task", "accepted", ["project_id", "task_id"])
