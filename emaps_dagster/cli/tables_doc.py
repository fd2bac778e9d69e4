"""Prints docs/tables.md, generated from the contracts: `python -m emaps_dagster.cli.tables_doc`."""

from __future__ import annotations

from emaps_dagster.contracts.tables import all_tables


def markdown(zone_keys: tuple[str, ...]) -> str:
    """The text of docs/tables.md: one section for each table, one line for each column."""
    lines = [
        "# Tables",
        "",
        "Made from `emaps_dagster/contracts/tables.py` by `make docs`. Times are UTC; power is the mean of the hour.",
        "Null (not reported), 0 and an absent key are three different things; nothing is filled with 0.",
        "The API may name a neighbour in one direction only: while power flows out, the import from there can be null.",
    ]
    for table in all_tables(zone_keys):
        lines += [
            "",
            f"## {table.qualified_name}",
            "",
            f"{table.meaning}. Key: {', '.join(f'`{name}`' for name in table.key)}. "
            f"Partitioned by `{table.partition}`.",
            "",
            "| column | type | unit | null | meaning |",
            "|---|---|---|---|---|",
            *(
                f"| `{c.name}` | {c.type} | {c.unit or ''} | {'yes' if c.nullable else 'no'} | {c.meaning} |"
                for c in table.columns
            ),
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(("GR",)), end="")
