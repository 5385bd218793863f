"""Tables as users keep them: files of text, workbooks and Parquet, and what their cells mean."""
