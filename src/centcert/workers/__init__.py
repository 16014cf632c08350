"""Several processes that serve as one node: a supervisor, a provider process and workers."""
