"""From the rows of a file to quotes with k and vol: the checks of ``prepare``, in their order, in one place."""

from pipeline.settings.quotes import QuotesParams
from pipeline.sources import quote_checks, quote_markets, quote_vols, repeated_smiles
from pipeline.sources.quote_rows import QuoteTable


def usable(table: QuoteTable, params: QuotesParams) -> QuoteTable:
    """The table with k and vol; rows that are no quotes are rejected.

    Raises:
        InputError: its numbers are in other units than the settings say, or rows of one time are not one market.
    """
    table = repeated_smiles.marked(quote_checks.checked(table, params))
    if params.drop_repeated:
        table = table.reject("repeated", table["repeated"] == 1.0)
    table = quote_vols.with_vols(table, params)
    table = quote_checks.check_outliers(table)
    quote_markets.check_smiles(table, params)
    return table
