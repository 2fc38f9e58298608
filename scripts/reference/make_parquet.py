"""Writes small Parquet files to test/fixtures/parquet, one per row format and codec (made with pyarrow 26.0.1).

    python scripts/reference/make_parquet.py
"""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

OUT = pathlib.Path(__file__).resolve().parents[2] / "test" / "fixtures" / "parquet"
OUT.mkdir(parents=True, exist_ok=True)


def write(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), OUT / f"{name}.parquet", **options)


texts = [{"text": f"row {i} é", "more": i} for i in range(25)]
for codec in ["none", "snappy", "gzip", "brotli", "zstd", "lz4"]:
    write(f"text-{codec}", texts, compression=codec, row_group_size=10)

write(
    "messages",
    [
        {
            "messages": [
                {"role": "user", "content": "What is the weather?", "tool_calls": None},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": '{"in": "Rome"}'}}],
                },
            ],
            "source": 2**60,
        },
        {"messages": [{"role": "user", "content": "Hi", "tool_calls": None}], "source": None},
    ],
)
write("tokens", [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [8, 9]}])
