"""What tokens cost and how many there will be."""
