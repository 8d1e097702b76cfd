"""Evidence: what an instance presents about itself, one module for each place that it comes from."""
