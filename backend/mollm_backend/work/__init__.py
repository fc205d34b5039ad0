"""What web pages, jobs and commands all need to know of the work: queues, budgets, progress, people."""
