"""The thin client: `Client` is typed and blocking; `raw` and `cli` are what starts fast. Names load when first used."""
