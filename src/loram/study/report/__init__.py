"""`loram report`: what a study's records say, as Markdown, HTML, tables and pictures."""
