"""Commands: `emaps`, `emaps-task`, the preflight check, orphaned runs, and the generator of docs/tables.md."""
