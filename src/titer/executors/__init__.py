"""Where jobs run: in this process, or in a pool of them."""
