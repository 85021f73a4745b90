"""What is done to a model's insides: which weights train, and what is read by hooks."""
