"""The tables. One row says one thing; nothing is deleted that a person made (tombstones in `deleted_at`)."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

_NOW = sa.text("CURRENT_TIMESTAMP")
_READABLE = sa.text("deleted_at IS NULL AND problem = ''")

# A project as its Label Studio numbers it. `decisions` is the parsed label config, `panel` the annotators' names
# and fingerprints in the order of the M axis, by decision; `connection` what connect changed (for disconnect).
# `trust`: what a job last found of audits, certificates and the plan, for the page, which computes nothing.
# `pinned_at`: since when the published version is held (a rollback does that); "" where it is not.
projects = sa.Table(
    "projects", metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("title", sa.String, nullable=False, default=""),
    sa.Column("ls_created_at", sa.String, nullable=False, default=""),
    sa.Column("label_config", sa.Text, nullable=False),
    sa.Column("decisions", sa.JSON, nullable=False),
    sa.Column("panel", sa.JSON, nullable=False, default=list),
    sa.Column("options", sa.JSON, nullable=False, default=dict),
    sa.Column("connection", sa.JSON, nullable=False, default=dict),
    sa.Column("connected", sa.Boolean, nullable=False, default=True),
    sa.Column("published_version", sa.String),
    sa.Column("batch_version", sa.String),
    sa.Column("reconciled_at", sa.String, nullable=False, default=""),
    sa.Column("attention", sa.Text, nullable=False, default=""),
    sa.Column("trust", sa.JSON, nullable=False, default=dict),
    sa.Column("pinned_at", sa.String, nullable=False, default=""),
    sa.Column("pinned_until_next", sa.Boolean, nullable=False, default=False),
)  # fmt: skip

tasks = sa.Table(
    "tasks", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("data_hash", sa.String, nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("text_key", sa.String, nullable=False),
    sa.Column("problem", sa.Text, nullable=False, default=""),
    sa.Column("updated_at", sa.String, nullable=False, default=""),
    sa.Column("deleted_at", sa.String),
    sa.Column("changed", sa.Integer, nullable=False, default=0),
    sa.Index("ix_tasks_text_key", "text_key"),
    sa.Index("ix_tasks_changed", "project_id", "changed"),
    sa.Index("ix_tasks_readable", "project_id", "text_key", sqlite_where=_READABLE, postgresql_where=_READABLE),
)  # fmt: skip

# A person's annotation, one row for each decision (`decision` is empty in a project that asks for only one); what is
# of the annotation as a whole, its provenance too, stands in each of its rows.
human_annotations = sa.Table(
    "annotations", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("annotation_id", sa.Integer, primary_key=True),
    sa.Column("decision", sa.String, primary_key=True, default=""),
    sa.Column("task_id", sa.Integer, nullable=False),
    sa.Column("user_id", sa.Integer, nullable=False, default=0),
    sa.Column("label", sa.String),
    sa.Column("was_cancelled", sa.Boolean, nullable=False, default=False),
    sa.Column("parent_prediction", sa.Integer),
    sa.Column("shown_version", sa.String),
    sa.Column("shown_label", sa.String),
    sa.Column("provenance", sa.String, nullable=False),
    sa.Column("created_at", sa.String, nullable=False, default=""),
    sa.Column("updated_at", sa.String, nullable=False, default=""),
    sa.Column("problem", sa.Text, nullable=False, default=""),
    sa.Column("deleted_at", sa.String),
    sa.Index("ix_annotations_task", "project_id", "task_id"),
)  # fmt: skip

# The content-addressed signal cache: one text, one annotator fingerprint (prompt and labels included).
signals = sa.Table(
    "signals", metadata,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("text_key", sa.String, primary_key=True),
    sa.Column("label_probs", sa.LargeBinary, nullable=False),
    sa.Column("votes", sa.LargeBinary, nullable=False),
    sa.Column("abstained", sa.Float, nullable=False, default=0.0),
    sa.Column("truncated", sa.Boolean, nullable=False, default=False),
    sa.Column("created_at", sa.String, nullable=False, server_default=_NOW),
)  # fmt: skip

# An annotator that could not be asked: why, since when, and when to try again. Its signals are missing meanwhile.
absences = sa.Table(
    "absences", metadata,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("retry_at", sa.Float, nullable=False),
)  # fmt: skip

# Why an annotator failed at a text (its signal is then an abstention): the kind, the words, how often it was tried, and
# when it is tried again (seconds since the epoch; none where the same would come out).
answer_errors = sa.Table(
    "answer_errors", metadata,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("text_key", sa.String, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("retry_at", sa.Float),
    sa.Column("since", sa.String, nullable=False),
)  # fmt: skip

ledger = sa.Table(
    "ledger", metadata,
    sa.Column("fingerprint", sa.String, primary_key=True),
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("day", sa.String, primary_key=True),
    sa.Column("annotator", sa.String, nullable=False),
    sa.Column("calls", sa.Integer, nullable=False, default=0),
    sa.Column("texts", sa.Integer, nullable=False, default=0),
    sa.Column("prompt_tokens", sa.Integer, nullable=False, default=0),
    sa.Column("completion_tokens", sa.Integer, nullable=False, default=0),
    sa.Column("abstained", sa.Float, nullable=False, default=0.0),
    sa.Column("truncated", sa.Integer, nullable=False, default=0),
    sa.Column("seconds", sa.Float, nullable=False, default=0.0),
)  # fmt: skip

# What was trained is immutable; `id` is a content name. `facts`: scores, notes, counts. Arrays lie in files under
# `$MOLLM_HOME`. `changes`: up to which change it has predicted; `unreadable`: why its files can predict nothing new.
versions = sa.Table(
    "versions", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("created_at", sa.String, nullable=False, server_default=_NOW),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("human_labels", sa.Integer, nullable=False, default=0),
    sa.Column("facts", sa.JSON, nullable=False, default=dict),
    sa.Column("changes", sa.Integer, nullable=False, default=0),
    sa.Column("unreadable", sa.Text, nullable=False, default=""),
)  # fmt: skip

predictions = sa.Table(
    "predictions", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("decision", sa.String, primary_key=True, default=""),
    sa.Column("text_key", sa.String, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("probs", sa.LargeBinary, nullable=False),
    sa.Column("classifier_probs", sa.LargeBinary),
    sa.Column("negatives", sa.JSON, nullable=False, default=list),
)  # fmt: skip

# The order in which people see tasks; `label` is what is shown, in words where there are several decisions.
# `published_at` is set once Label Studio holds the entry.
batch_entries = sa.Table(
    "batch_entries", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("batch_version", sa.String, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("label", sa.String, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("gain", sa.Float, nullable=False, default=0.0),
    sa.Column("published_at", sa.String),
)  # fmt: skip

# What jobs noted for the pages (see `mollm_backend.store.notes`).
notes = sa.Table(
    "notes", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
)  # fmt: skip

# How often something was written (see `mollm_backend.store.revisions`).
revisions = sa.Table(
    "revisions", metadata,
    sa.Column("subject", sa.String, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)  # fmt: skip

events = sa.Table(
    "events", metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.String, nullable=False),
    sa.Column("project_id", sa.Integer),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
)  # fmt: skip

# An audit: which tasks people label blind before a decision. `parts` says how it was drawn (a part for each class, or
# one). The open tasks when it was made are frozen, part after part, each the most confident first: their ids, the
# first 8 bytes of their text keys, their confidence and their labels, as `mollm_backend.store.audits` packs them.
audits = sa.Table(
    "audits", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("made_at", sa.String, nullable=False),
    sa.Column("purpose", sa.String, nullable=False),
    sa.Column("target", sa.Float),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("looks", sa.Integer, nullable=False, default=1),
    sa.Column("seed", sa.Integer, nullable=False),
    sa.Column("parts", sa.JSON, nullable=False),
    sa.Column("frozen", sa.LargeBinary, nullable=False),
    sa.Column("frozen_texts", sa.LargeBinary, nullable=False),
    sa.Column("frozen_confidence", sa.LargeBinary, nullable=False),
    sa.Column("frozen_labels", sa.LargeBinary, nullable=False),
    sa.Column("label_config_digest", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False, default=""),
)  # fmt: skip

# The tasks of an audit; `place` is in the order of confidence within its part, `turn` the order in which people see
# them, `predicted` the label in each decision when it was drawn.
audit_tasks = sa.Table(
    "audit_tasks", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("audit_id", sa.String, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("turn", sa.Integer, nullable=False),
    sa.Column("probability", sa.Float, nullable=False),
    sa.Column("predicted", sa.JSON, nullable=False),
    sa.Column("text_key", sa.String, nullable=False),
    sa.Index("ix_audit_tasks_task", "project_id", "task_id"),
)  # fmt: skip

# What an audit allowed: `tasks` are certified, with `audits` audited ones among them, `errors` of which were wrong;
# `accepted` may be written. `attempt` counts the decided audits for a certificate; `by_class`: the result of each part.
certificates = sa.Table(
    "certificates", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("audit_id", sa.String, nullable=False),
    sa.Column("made_at", sa.String, nullable=False),
    sa.Column("look", sa.Integer, nullable=False),
    sa.Column("tasks", sa.Integer, nullable=False),
    sa.Column("audits", sa.Integer, nullable=False),
    sa.Column("errors", sa.Integer, nullable=False),
    sa.Column("accepted", sa.Integer, nullable=False),
    sa.Column("target", sa.Float, nullable=False),
    sa.Column("confidence", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("by_class", sa.JSON, nullable=False, default=list),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("note", sa.Text, nullable=False, default=""),
)  # fmt: skip

# The tasks that a certificate accepts unseen. `state`: waiting, written, kept (a person touched it) or undone.
accepted = sa.Table(
    "accepted", metadata,
    sa.Column("project_id", sa.Integer, primary_key=True),
    sa.Column("certificate_id", sa.String, primary_key=True),
    sa.Column("task_id", sa.Integer, primary_key=True),
    sa.Column("labels", sa.JSON, nullable=False),
    sa.Column("text_key", sa.String, nullable=False),
    sa.Column("annotation_id", sa.Integer),
    sa.Column("written_at", sa.String),
    sa.Column("state", sa.String, nullable=False),
    sa.Index("ix_accepted_task", "project_id", "task_id"),
)  # fmt: skip

# What is worth telling somebody who looks at no page. `told`: by way (webhook, mail), what was told of it: "begun" or
# "over". A fact that lasts has an end (`over_at`); one that happened has none.
alerts = sa.Table(
    "alerts", metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("project_id", sa.Integer, nullable=False),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
    sa.Column("since", sa.String, nullable=False),
    sa.Column("over_at", sa.String, nullable=False, default=""),
    sa.Column("told", sa.JSON, nullable=False, default=dict),
)  # fmt: skip
