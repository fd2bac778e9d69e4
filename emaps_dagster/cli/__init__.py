"""Commands: `emaps`, `emaps-task`, the preflight check, and what writes docs/tables.md."""
