"""Names and orders in which publishers lay out the weights of our nets, a table for each family."""
