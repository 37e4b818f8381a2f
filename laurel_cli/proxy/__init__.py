"""Short training runs: tasks, the training loop, studies, and what their differences mean."""
