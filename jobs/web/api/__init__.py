"""REST, version 1: what the pages show and what applications need, as JSON, Arrow, Parquet or CSV."""
