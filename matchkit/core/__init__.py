"""What every room stands on: the words of the code as types, and the arithmetic that two rooms share."""
