"""Short training runs whose differences mean something: data, tasks, the training loop, studies."""
