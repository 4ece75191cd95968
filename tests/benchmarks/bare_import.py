"""The bare script that an import is held against: read every row with csv, COPY the same rows.

python bare_import.py FILE DATABASE_URL FOLDER TABLE…: the rows of each table are in FOLDER/TABLE.copy.
"""

import asyncio
import csv
import gzip
import lzma
import sys
from pathlib import Path

import asyncpg


async def _main(file: str, url: str, folder: str, tables: list[str]) -> None:
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(Path(file).suffix, open)
    with opener(file, "rt", encoding="utf-8-sig", newline="") as text:
        for _ in csv.reader(text):
            pass
    sql = await asyncpg.connect(url)
    async with sql.transaction():
        for table in tables:
            await sql.copy_to_table(table, source=Path(folder) / f"{table}.copy")
    await sql.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:4], sys.argv[4:]))
