"""mollm as a Label Studio ML backend: web process, jobs, worker and command line."""
