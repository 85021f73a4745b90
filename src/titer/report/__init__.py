"""What people read. Everything shown comes from one JSON value, the verdict."""
