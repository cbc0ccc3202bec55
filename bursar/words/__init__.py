"""The words that everything else uses: plain data, no effects."""
