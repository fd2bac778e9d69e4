"""What runs on the emulated cluster; its files are copied there, and import nothing of the project."""
