"""What proposes negative labels: names that are like the classes and none of them."""
