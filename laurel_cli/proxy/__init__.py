"""Short training runs whose differences mean something: recipes, the training loop, studies."""
