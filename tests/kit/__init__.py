"""What tests share: runs, optimizers, comparisons of trees, ways to store a state, and the recorded data."""
