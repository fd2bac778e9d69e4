"""What is measured: each module is a command that makes its own input and prints a small table."""
