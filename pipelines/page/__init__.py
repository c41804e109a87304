"""The page: everything that reports, weights, predictions and a store can show of a dataset, in one HTML file."""
