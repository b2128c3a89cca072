"""What can be composed."""
