"""Writing the schema down, as it is committed: `python -m graphql_schema.export`."""

from pathlib import Path

from graphql_schema.root import laurel_schema

FILE = Path(__file__).with_name("schema.graphql")


def main() -> None:
    """Write the schema into FILE."""
    FILE.write_text(laurel_schema().as_str() + "\n")


if __name__ == "__main__":
    main()
