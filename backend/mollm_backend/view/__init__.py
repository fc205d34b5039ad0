"""What people see: the pages' state, read from the store, and their HTML. Nothing is computed here that a job notes."""
