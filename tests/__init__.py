"""Makes `tests.` this folder wherever it is imported from: installed packages of that name are common."""
