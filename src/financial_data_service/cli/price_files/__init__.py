"""Files of prices: what people have, read once, checked whole, before anything is stored.

``sources`` finds the files and unpacks them; ``layout`` finds delimiter, header and first row of a
text; ``columns`` chooses the columns, ``numbers`` and ``times`` read their cells. ``csv_rows``,
``json_rows`` and ``table_rows`` yield rows of one format; ``order`` checks their order; ``reading``
puts them together and keeps the prices in a ``spool`` per symbol. It may import ``cli.console``
and what is below ``cli``. A new format, or a new form of number or time, goes here.
"""
