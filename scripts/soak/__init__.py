"""What two soaks share: whose a request is, how the provider behaves, the books and what must hold of them."""
